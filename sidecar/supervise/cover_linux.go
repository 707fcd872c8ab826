package supervise

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// cover binds source over target. A target that is not there needs no cover.
func cover(source, target string, flags uintptr) error {
	err := unix.Mount(source, target, "", unix.MS_BIND|flags, "")
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("bind over %s: %w", target, err)
	}
	return nil
}

// bindOver covers every one of targets.
func bindOver(source string, targets []string) error {
	for _, target := range targets {
		if err := cover(source, target, 0); err != nil {
			return err
		}
	}
	return nil
}

// maskPaths hides and protects what container runtimes do (OCI runtime
// specification, linux.maskedPaths and readonlyPaths): a fresh /proc has none of it.
func maskPaths() error {
	masked := []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
		"/sys/devices/virtual/powercap", "/sys/firmware",
	}
	if err := hide(masked); err != nil {
		return err
	}
	for _, path := range []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"} {
		if err := cover(path, path, unix.MS_REC); err != nil {
			return err
		}
		err := unix.Mount("", path, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("make %s read-only: %w", path, err)
		}
	}
	// Control groups are below /sys, some of them the user's own.
	readOnly := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	err := unix.MountSetattr(unix.AT_FDCWD, "/sys", unix.AT_RECURSIVE, readOnly)
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("make /sys read-only: %w", err)
	}
	return nil
}

// hide puts nothing in the place of files and directories, where they exist.
func hide(paths []string) error {
	for _, path := range paths {
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, os.ErrNotExist):
			continue
		case err != nil:
			return fmt.Errorf("hide %s: %w", path, err)
		case info.IsDir():
			err = unix.Mount("tmpfs", path, "tmpfs", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "size=4k,mode=0555")
		default:
			err = cover("/dev/null", path, 0)
		}
		if err != nil {
			return fmt.Errorf("hide %s: %w", path, err)
		}
	}
	return nil
}

// coverHome gives the agent an empty home of its own where it can't enter the
// one that HOME names, so that nothing of use is hidden.
func coverHome(s *stageSettings) error {
	home := lookup(s.Env, "HOME")
	info, err := os.Stat(home)
	if err != nil || !info.IsDir() || home == "/" || s.owns(info) || info.Mode().Perm()&0o001 != 0 {
		return nil
	}
	if err := unix.Mount("tmpfs", home, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0700,"+tmpfsSize+","+s.owner()); err != nil {
		return fmt.Errorf("mount an empty %s: %w", home, err)
	}
	return nil
}

// coverSockets makes the machine's sockets unreachable. A connection to one (a
// desktop's bus, a container engine) could have anything done outside. Whoever
// bound a socket chose its path and may have put anything in its place since:
// only what is a socket is covered, by the descriptor that told so.
func coverSockets(paths []string) error {
	for _, path := range paths {
		fd, err := unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS})
		if err != nil {
			continue // gone, a loop of links, or nothing that a path leads to from here
		}
		err = coverSocket(fd, path)
		unix.Close(fd)
		if err != nil {
			return err
		}
	}
	return nil
}

func coverSocket(fd int, path string) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("look at the socket %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil
	}
	if err := cover("/dev/null", fmt.Sprintf("/proc/self/fd/%d", fd), 0); err != nil {
		return fmt.Errorf("cover the socket %s: %w", path, err)
	}
	return nil
}

// boundSockets lists the Unix sockets that have a path in the network namespace
// of the calling thread. /proc/net would be that of the first thread, which may
// be the one that has entered the sandbox's.
func boundSockets() ([]string, error) {
	f, err := os.Open("/proc/thread-self/net/unix")
	if err != nil {
		return nil, fmt.Errorf("list Unix sockets: %w", err)
	}
	defer f.Close()
	var paths []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if path := socketPath(lines.Text()); strings.HasPrefix(path, "/") {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths), lines.Err()
}

// socketPath is the rest of a line of /proc/net/unix after its fields Num,
// RefCount, Protocol, Flags, Type, St and Inode. It may hold any byte.
func socketPath(line string) string {
	for range 7 {
		_, after, ok := strings.Cut(strings.TrimLeft(line, " "), " ")
		if !ok {
			return ""
		}
		line = after
	}
	return line
}
