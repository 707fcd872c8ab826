package main

import (
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// descriptors are what this process was given, and should not have been: anything above
// standard error. It is called before this program opens anything itself.
func descriptors() ([]attack, error) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil, err
	}
	found := []string{}
	for _, entry := range entries {
		target, err := os.Readlink("/proc/self/fd/" + entry.Name())
		own := err != nil || strings.HasPrefix(target, "anon_inode:[event") || strings.HasPrefix(target, "/proc/") || strings.HasPrefix(target, "/sys/fs/cgroup/")
		if entry.Name() > "2" && !own {
			found = append(found, entry.Name()+" is "+target)
		}
	}
	return []attack{{"one that was left open", func(*attack) error {
		if len(found) == 0 {
			return fmt.Errorf("there is none")
		}
		return nil
	}}}, nil
}

// processes goes for processes outside, by the pids that they have there, and for the
// sandbox's own PID 1, which is not the agent's.
func processes(s settings) []attack {
	var all []attack
	for _, what := range slices.Sorted(maps.Keys(s.pids)) {
		pid := s.pids[what]
		add := func(name string, run func() error) {
			all = append(all, attack{what + ": " + name, func(*attack) error { return onThread(run) }})
		}
		for _, file := range []string{"environ", "cmdline", "maps", "smaps", "mem", "auxv", "stat", "syscall", "stack", "io", "limits", "pagemap"} {
			add("read "+file, func() error { return read(fmt.Sprintf("/proc/%d/%s", pid, file)) })
		}
		for _, link := range []string{"exe", "cwd", "root", "fd/0", "ns/net", "ns/mnt", "ns/pid", "ns/user"} {
			add("open "+link, func() error { return open(fmt.Sprintf("/proc/%d/%s", pid, link)) })
		}
		add("list descriptors", func() error { _, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid)); return err })
		add("file by its root", func() error { return read(fmt.Sprintf("/proc/%d/root%s", pid, s.hidden)) })
		for _, file := range []string{"oom_score_adj", "coredump_filter", "comm"} {
			add("change "+file, func() error { return openFor(fmt.Sprintf("/proc/%d/%s", pid, file), unix.O_WRONLY) })
		}
		add("signal", func() error { return unix.Kill(pid, 0) })
		add("trace", func() error { return trace(pid) })
		add("read memory", func() error { return copyMemory(unix.SYS_PROCESS_VM_READV, pid) })
		add("enter the network", func() error { return setns(pid, "net", unix.CLONE_NEWNET) })
		add("enter the mounts", func() error { return setns(pid, "mnt", unix.CLONE_NEWNS) })
		add("enter by pidfd", func() error {
			return byPidfd(pid, func(fd int) error { return unix.Setns(fd, unix.CLONE_NEWNET|unix.CLONE_NEWUTS) })
		})
		add("take a descriptor", func() error {
			return byPidfd(pid, func(fd int) error {
				taken, err := unix.PidfdGetfd(fd, 2, 0)
				if err == nil {
					return unix.Close(taken)
				}
				return err
			})
		})
		add("signal by pidfd", func() error { return byPidfd(pid, func(fd int) error { return unix.PidfdSendSignal(fd, 0, nil, 0) }) })
		add("compare", func() error { return call(unix.SYS_KCMP, uintptr(os.Getpid()), uintptr(pid), 1) })
		add("read limits", func() error { return unix.Prlimit(pid, unix.RLIMIT_CORE, nil, new(unix.Rlimit)) })
		add("move memory", func() error { return call(unix.SYS_MOVE_PAGES, uintptr(pid), 0) })
		add("pin to a processor", func() error {
			var set unix.CPUSet
			if err := unix.SchedGetaffinity(pid, &set); err != nil {
				return err
			}
			return unix.SchedSetaffinity(pid, &set)
		})
		add("robust list", func() error {
			var head, size uintptr
			return call(unix.SYS_GET_ROBUST_LIST, uintptr(pid), uintptr(unsafe.Pointer(&head)), uintptr(unsafe.Pointer(&size)))
		})
	}
	return all
}

// onThread runs f on a thread that ends with it, so that what f does to its thread is undone.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}

func read(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Seek(0x400000, 0); !strings.HasSuffix(path, "/mem") || err != nil {
		_, err = f.Seek(0, 0) // memory is not mapped from its beginning
		if err != nil {
			return err
		}
	}
	n, err := f.Read(make([]byte, 100))
	if n == 0 {
		return fmt.Errorf("%s: nothing to read: %w", path, err)
	}
	return nil
}

func open(path string) error { return openFor(path, unix.O_RDONLY) }

func openFor(path string, flags int) error {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// trace ends with its thread.
func trace(pid int) error {
	const seize = 0x4206 // PTRACE_SEIZE
	return call(unix.SYS_PTRACE, seize, uintptr(pid))
}

func copyMemory(number uintptr, pid int) error {
	b := make([]byte, 8)
	own := unix.Iovec{Base: &b[0], Len: 8}
	other := unix.RemoteIovec{Base: 0x400000, Len: 8} // where the text of our programs begins
	return call(number, uintptr(pid), uintptr(unsafe.Pointer(&own)), 1, uintptr(unsafe.Pointer(&other)), 1)
}

func setns(pid int, kind string, flag int) error {
	if flag == unix.CLONE_NEWNS {
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return err
		}
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/%s", pid, kind), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Setns(fd, flag)
}

func byPidfd(pid int, f func(int) error) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return f(fd)
}

func call(number uintptr, args ...uintptr) error {
	var a [6]uintptr
	copy(a[:], args)
	if _, _, errno := unix.Syscall6(number, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
		return errno
	}
	return nil
}
