package supervise

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/landlock-lsm/go-landlock/landlock"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// maxFiles is how many descriptors a worker may have, where the hard limit can be raised.
const maxFiles = 1 << 20

// readable is all that a worker may read: the resolver's configuration and
// certificate bundles, wherever distributions put them, and its own status.
func readable() []string {
	return []string{
		"/etc", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates", "/usr/local/share/certs", "/usr/local/etc",
		"/usr/lib/ssl", "/usr/share/pki", "/var/lib/ca-certificates", "/run/systemd/resolve", "/run/resolvconf",
		"/proc/self", "/sys/kernel/mm/transparent_hugepage", "/sys/fs/cgroup",
	}
}

// confine takes from this process, on every thread and for good, all that
// serving does not need. extra names further files or directories to read.
func confine(extra []string) error {
	raiseFileLimit()
	if err := dropPrivileges(); err != nil {
		return err
	}
	if err := keepPrivate(); err != nil {
		return err
	}
	var rules []landlock.Rule
	for _, path := range append(readable(), extra...) {
		switch info, err := os.Stat(path); {
		case err != nil:
		case info.IsDir():
			rules = append(rules, landlock.RODirs(path).IgnoreIfMissing())
		default:
			rules = append(rules, landlock.ROFiles(path).IgnoreIfMissing())
		}
	}
	// The network stays open: Landlock knows ports, not addresses.
	restricted := landlock.V9.BestEffort()
	if err := restricted.RestrictPaths(rules...); err != nil {
		return fmt.Errorf("confine with Landlock: %w", err)
	}
	if err := restricted.RestrictScoped(); err != nil {
		return fmt.Errorf("confine with Landlock: %w", err)
	}
	return loadFilter(workerPolicy())
}

// raiseFileLimit asks for more descriptors, and is content with what it gets.
func raiseFileLimit() {
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: maxFiles, Max: maxFiles}) == nil {
		return
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		limit.Cur = limit.Max
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	}
}

// confineInit takes from init what it has no more use for once the sandbox
// stands. It stays able to start a worker and to end one.
func (s *supervisor) confineInit() error {
	keep := []cap.Value{cap.SETPCAP} // a worker needs it to give up all the rest
	if s.ids.worker != 0 {
		keep = append(keep, cap.KILL, cap.SETGID, cap.SETUID, cap.SYS_RESOURCE)
	}
	if s.PutBack {
		keep = append(keep, cap.NET_ADMIN, cap.NET_RAW, cap.SYS_ADMIN) // iptables asks for NET_RAW
	}
	if err := boundCapabilities(keep...); err != nil {
		return err
	}
	if err := keepCapabilities(keep...); err != nil {
		return err
	}
	if !s.PutBack { // which writes to /proc/sys
		rules := []landlock.Rule{landlock.RODirs("/")}
		if s.RecordDir != "" {
			const removeFile = 1 << 5 // LANDLOCK_ACCESS_FS_REMOVE_FILE, linux/landlock.h
			rules = append(rules, landlock.PathAccess(removeFile, s.RecordDir))
		}
		if err := landlock.V9.BestEffort().RestrictPaths(rules...); err != nil {
			return fmt.Errorf("confine init with Landlock: %w", err)
		}
	}
	return loadFilter(initPolicy())
}

// boundCapabilities drops all capabilities but some from what programs that are
// started later can have, on every thread.
func boundCapabilities(some ...cap.Value) error {
	for value := range cap.MaxBits() {
		if has, err := cap.GetBound(value); err != nil || !has || slices.Contains(some, value) {
			continue
		}
		if err := cap.DropBound(value); err != nil {
			return fmt.Errorf("drop %v from the bounding set: %w", value, err)
		}
	}
	return nil
}

// dropPrivileges empties every capability set, bounding and ambient included,
// locks the securebits and sets no_new_privs.
func dropPrivileges() error {
	if err := cap.ModeNoPriv.Set(); err != nil {
		return fmt.Errorf("drop capabilities (is CAP_SETPCAP missing?): %w", err)
	}
	if mode := cap.GetMode(); mode != cap.ModeNoPriv {
		return fmt.Errorf("drop capabilities: still in mode %v", mode)
	}
	return nil
}

// keepCapabilities drops all capabilities but some, on every thread.
func keepCapabilities(some ...cap.Value) error {
	have, set := cap.GetProc(), cap.NewSet()
	for _, value := range some {
		permitted, err := have.GetFlag(cap.Permitted, value)
		if err != nil {
			return fmt.Errorf("read capabilities: %w", err)
		}
		for _, flag := range []cap.Flag{cap.Permitted, cap.Effective} {
			if err := set.SetFlag(flag, permitted, value); err != nil {
				return fmt.Errorf("drop capabilities: %w", err)
			}
		}
	}
	if err := set.SetProc(); err != nil {
		return fmt.Errorf("drop capabilities but %v: %w", some, err)
	}
	return nil
}

// keepPrivate hides this process' memory from others of its uid and from core
// files. A change of credentials would undo it, so it comes after the last one.
func keepPrivate() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("make the process undumpable: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core files: %w", err)
	}
	return nil
}

// closeOnExec keeps every descriptor above the standard three from a program
// that is started later, whoever opened it.
func closeOnExec() error {
	const last = ^uint32(0) // as the kernel has it: all of them
	if err := unix.CloseRange(3, uint(last), unix.CLOSE_RANGE_CLOEXEC); err == nil {
		return nil
	}
	fds, err := filepath.Glob("/proc/self/fd/*") // before Linux 5.11
	if err != nil {
		return fmt.Errorf("list open descriptors: %w", err)
	}
	for _, path := range fds {
		if fd, ok := InheritedFD(path); ok && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}
