package supervise

import (
	"bufio"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const runDir = "/run"

// mountSandbox gives the sandbox a file system view of its own, in the mount
// namespace that this process is alone in. The agent, in a lesser user
// namespace, can undo none of it.
func mountSandbox(s *stageSettings) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	kept, err := openShared(s)
	if err != nil {
		return err
	}
	steps := []func() error{
		func() error { return mountProc(s.GIDs.First != 0) },
		func() error { return mountDev(s) },
		mountRun,
		mountTemporary,
		func() error { return bindShared(kept) },
		func() error { return makeTemporary(s.Env) },
		s.writeTrust,
		s.bindTrust,
		func() error { return bindResolver(s.Nameservers) },
		func() error { return coverSockets(s.Sockets) },
		func() error { return hide(s.Hide) },
		func() error { return coverHome(s) },
		maskPaths,
		func() error {
			return unix.Mount("", trustDir, "", unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
		},
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// mountProc mounts a /proc that knows the sandbox's processes only, and puts it
// over every other one in sight, which would show the machine's. The agent does
// not see its PID 1; we see the agent by our group, where it has another.
func mountProc(ownGroup bool) error {
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	others, err := procMounts()
	if err != nil {
		return err
	}
	options := "hidepid=2"
	if ownGroup {
		options += ",gid=0"
	}
	err = unix.Mount("proc", "/proc", "proc", flags, options)
	if errors.Is(err, unix.EINVAL) {
		err = unix.Mount("proc", "/proc", "proc", flags, "")
	}
	if err != nil {
		return fmt.Errorf("mount the sandbox's /proc: %w (in a container: CAP_SYS_ADMIN is needed, and without root an unmasked /proc)", err)
	}
	for _, path := range others {
		if err := cover("/proc", path, unix.MS_REC); err != nil {
			return err
		}
	}
	return nil
}

// procMounts lists where else a proc file system is mounted.
func procMounts() ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	defer f.Close()
	var paths []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(before)
		if !ok || len(fields) < 5 || !strings.HasPrefix(after, "proc ") {
			continue
		}
		path, err := strconv.Unquote(`"` + strings.ReplaceAll(fields[4], `"`, `\"`) + `"`) // \040 is a space
		if err != nil {
			return nil, fmt.Errorf("list mounts: mount point %q: %w", fields[4], err)
		}
		if path != "/proc" && !strings.HasPrefix(path, "/proc/") {
			paths = append(paths, path)
		}
	}
	return paths, lines.Err()
}

// mountDev mounts a /dev with the devices every program expects and none of the machine's.
func mountDev(s *stageSettings) error {
	nodes := []string{"null", "zero", "full", "random", "urandom", "tty"}
	old := make(map[string]*os.File)
	for _, name := range nodes {
		f, err := os.OpenFile("/dev/"+name, unix.O_PATH, 0)
		if err != nil {
			return fmt.Errorf("the image lacks a device: %w", err)
		}
		defer f.Close()
		old[name] = f
	}
	shm := "mode=1777,size=" + strconv.FormatUint(sharedMemory(), 10)
	const flags = unix.MS_NOSUID | unix.MS_NOEXEC
	if err := unix.Mount("tmpfs", "/dev", "tmpfs", flags, "mode=0755,size=64k"); err != nil {
		return fmt.Errorf("mount the sandbox's /dev: %w", err)
	}
	for _, name := range nodes {
		if err := os.WriteFile("/dev/"+name, nil, 0o644); err != nil {
			return fmt.Errorf("make the sandbox's /dev: %w", err)
		}
		if err := cover(fmt.Sprintf("/proc/self/fd/%d", old[name].Fd()), "/dev/"+name, 0); err != nil {
			return err
		}
	}
	for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2", "ptmx": "pts/ptmx"} {
		if err := os.Symlink(target, "/dev/"+name); err != nil {
			return fmt.Errorf("make the sandbox's /dev: %w", err)
		}
	}
	for name, options := range map[string]string{"pts": "newinstance,ptmxmode=0666,mode=0620," + s.owner(), "shm": shm} {
		if err := os.Mkdir("/dev/"+name, 0o755); err != nil {
			return fmt.Errorf("make the sandbox's /dev: %w", err)
		}
		kind := map[string]string{"pts": "devpts", "shm": "tmpfs"}[name]
		if err := unix.Mount(kind, "/dev/"+name, kind, flags, options); err != nil {
			return fmt.Errorf("mount the sandbox's /dev/%s: %w", name, err)
		}
	}
	return unix.Mount("", "/dev", "", unix.MS_REMOUNT|unix.MS_RDONLY|flags, "mode=0755,size=64k")
}

// sharedMemory is the size of the /dev/shm outside, in bytes: a container's owner
// may have chosen it.
func sharedMemory() uint64 {
	const usual, tmpfs = 64 << 20, 0x01021994 // as container engines have it; TMPFS_MAGIC
	var fs unix.Statfs_t
	if unix.Statfs("/dev/shm", &fs) != nil || fs.Type != tmpfs || fs.Blocks == 0 {
		return usual
	}
	return fs.Blocks * uint64(fs.Bsize)
}

// mountRun mounts an empty /run: what is there belongs to processes outside,
// whose sockets would be a way out. Our own directory in it follows.
func mountRun() error {
	const flags = unix.MS_NOSUID | unix.MS_NODEV
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		return fmt.Errorf("the image has no %s and none can be made: %w", runDir, err)
	}
	if err := unix.Mount("tmpfs", runDir, "tmpfs", flags, "mode=1777,"+tmpfsSize); err != nil {
		return fmt.Errorf("mount the sandbox's %s: %w", runDir, err)
	}
	if info, err := os.Lstat("/var/run"); err == nil && info.IsDir() {
		if err := cover(runDir, "/var/run", 0); err != nil {
			return err
		}
	}
	if err := os.Mkdir(trustDir, 0o755); err != nil {
		return fmt.Errorf("make %s: %w", trustDir, err)
	}
	if err := unix.Mount("tmpfs", trustDir, "tmpfs", flags|unix.MS_NOEXEC, "mode=0755"); err != nil {
		return fmt.Errorf("mount %s: %w", trustDir, err)
	}
	return nil
}

// bindResolver makes the sidecar's resolver the only one.
func bindResolver(servers []netip.Addr) error {
	var conf strings.Builder
	for _, server := range servers {
		fmt.Fprintf(&conf, "nameserver %s\n", server)
	}
	if err := os.WriteFile(resolvFile, []byte(conf.String()), 0o444); err != nil {
		return fmt.Errorf("write the sandbox's resolv.conf: %w", err)
	}
	target, err := mountPoint("/etc/resolv.conf")
	if err != nil {
		return err
	}
	return cover(resolvFile, target, 0)
}

// mountPoint follows symbolic links to the file behind path and makes an empty
// one if there is none, as when systemd-resolved's is gone with the old /run.
func mountPoint(path string) (string, error) {
	for range 40 { // as many links as the kernel follows
		target, err := os.Readlink(path)
		if err != nil {
			break
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = target
	}
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", fmt.Errorf("make a place for %s: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return "", fmt.Errorf("make a place for %s: %w (an image with a read-only root needs this file)", path, err)
	}
	return path, f.Close()
}
