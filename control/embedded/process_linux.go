package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	osuser "os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// findBinaries gives the directory of initdb and postgres: the one of the
// existing cluster's version, else the one in PATH, else the newest. Debian keeps
// a directory a version, outside PATH.
func findBinaries(data, debian string) (string, error) {
	var candidates []string
	if version, err := os.ReadFile(filepath.Join(data, "PG_VERSION")); err == nil {
		candidates = append(candidates, filepath.Join(debian, strings.TrimSpace(string(version)), "bin"))
	}
	if initdb, err := exec.LookPath("initdb"); err == nil {
		candidates = append(candidates, filepath.Dir(initdb))
	}
	newest := 0
	versions, _ := os.ReadDir(debian) // none is not an error: Postgres may be elsewhere
	for _, v := range versions {
		if n, err := strconv.Atoi(v.Name()); err == nil && n > newest {
			newest = n
		}
	}
	candidates = append(candidates, filepath.Join(debian, strconv.Itoa(newest), "bin"))
	for _, dir := range candidates {
		_, noInit := exec.LookPath(filepath.Join(dir, "initdb"))
		_, noServer := exec.LookPath(filepath.Join(dir, "postgres"))
		if noInit == nil && noServer == nil {
			return dir, nil
		}
	}
	return "", ErrNotInstalled
}

// lookup finds a user by name, as os/user.Lookup does.
type lookup func(name string) (*osuser.User, error)

// ownerOf is whom Postgres runs as: nil for ourselves, or, since it refuses to
// run as root, the owner of its data or else a user made for such things. Others
// run as nobody too, and could read all that it has.
func ownerOf(data string, find lookup) (*syscall.Credential, error) {
	info, err := os.Stat(data)
	switch {
	case err == nil:
		st := info.Sys().(*syscall.Stat_t)
		if os.Geteuid() != 0 && int(st.Uid) != os.Geteuid() {
			return nil, fmt.Errorf("%s belongs to the user with id %d: start as that user, or as root", data, st.Uid)
		}
		if os.Geteuid() == 0 && st.Uid != 0 {
			return &syscall.Credential{Uid: st.Uid, Gid: st.Gid}, nil
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("look at the cluster: %w", err)
	}
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"sallyport", "postgres"} {
		u, err := find(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
		gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
		if errUID == nil && errGID == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
		}
	}
	return nil, errors.New("postgres does not run as root, and there is neither a user sallyport nor postgres to run it as: make one (useradd --system sallyport), start as another user, or give --database URL")
}

// lockDir makes us the only one who runs the cluster in dir. The lock goes with
// the process, however it ends.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s is in use by another control plane: stop that one, or choose another data directory", filepath.Dir(dir))
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return f, nil
}

// readPIDFile reads who runs the cluster and how far it is: lines 1 and 8 of
// postmaster.pid. It gives 0 and "" where there is nothing to read yet.
func readPIDFile(data string) (pid int, status string) {
	text, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return 0, ""
	}
	lines := strings.Split(string(text), "\n")
	pid, _ = strconv.Atoi(strings.TrimSpace(lines[0]))
	if len(lines) >= 8 {
		status = strings.TrimSpace(lines[7])
	}
	return pid, status
}

// strays are the processes of Postgres that work in the data directory. All of
// them do, so this finds a dead server's orphans too, and is not misled by a
// process that has the number in a stale postmaster.pid.
func strays(data string) ([]*os.Process, error) {
	home, err := os.Stat(data)
	if err != nil {
		return nil, fmt.Errorf("look at the cluster: %w", err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("look for processes of the cluster: %w", err)
	}
	var found []*os.Process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		p, err := os.FindProcess(pid) // a handle first, so that what is checked is what is signalled
		if err != nil {
			continue
		}
		cwd, errCwd := os.Stat(fmt.Sprintf("/proc/%d/cwd", pid))
		exe, errExe := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if errCwd == nil && errExe == nil && os.SameFile(cwd, home) && filepath.Base(strings.TrimSuffix(exe, " (deleted)")) == "postgres" {
			found = append(found, p)
			continue
		}
		p.Release()
	}
	return found, nil
}

// endStrays ends what a control plane that was killed left running, then clears
// away the files that would keep a new server from starting.
func endStrays(ctx context.Context, data string, log *slog.Logger) error {
	for _, step := range []struct {
		signal   syscall.Signal
		mainOnly bool
		patience time.Duration
	}{
		{syscall.SIGINT, true, 20 * time.Second},
		{syscall.SIGQUIT, false, 5 * time.Second},
		{syscall.SIGKILL, false, 5 * time.Second},
	} {
		if done, err := signalStrays(ctx, data, log, step.signal, step.mainOnly, step.patience); err != nil {
			return err
		} else if done {
			return removeStale(data)
		}
	}
	return fmt.Errorf("an earlier postgres still runs in %s and can't be ended", data)
}

// signalStrays sends a signal, to the server or to all, and reports whether no
// process remains. It waits for that up to patience, if anyone was signalled.
func signalStrays(ctx context.Context, data string, log *slog.Logger, signal syscall.Signal, mainOnly bool, patience time.Duration) (bool, error) {
	deadline := time.Now().Add(patience)
	main, _ := readPIDFile(data)
	for signalled, sent := false, 0; ; signalled = true {
		left, err := strays(data)
		if err != nil {
			return false, err
		}
		for _, p := range left {
			if !signalled && (!mainOnly || p.Pid == main) {
				sent++
				log.Warn("ending a postgres that an earlier process left", "pid", p.Pid, "signal", signal.String())
				p.Signal(signal) // it may be gone already
			}
			p.Release()
		}
		if len(left) == 0 || sent == 0 || time.Now().After(deadline) {
			return len(left) == 0, nil
		}
		select {
		case <-ctx.Done():
			return false, fmt.Errorf("end an earlier postgres: %w", ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func removeStale(data string) error {
	for _, name := range []string{"postmaster.pid", socket, socket + ".lock"} {
		if err := os.Remove(filepath.Join(data, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("clear away what an earlier postgres left: %w", err)
		}
	}
	return nil
}
