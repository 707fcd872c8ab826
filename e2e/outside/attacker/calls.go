package main

import (
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// calls are system calls that reach beyond a sandbox or open the worst of the kernel,
// as they are and in disguise: with bits set that the kernel ignores, and in another ABI.
func calls(s settings) []attack {
	var all []attack
	add := func(name string, run func() error) {
		all = append(all, attack{name, func(*attack) error { return onThread(run) }})
	}
	pointer := func(b []byte) uintptr { return uintptr(unsafe.Pointer(&b[0])) }
	text := append([]byte("sallyport"), 0)
	user := append([]byte("user"), 0)
	attr := make([]byte, 128)
	add("bpf: make a map", func() error {
		a := slices.Clone(attr)
		a[0], a[4], a[8], a[12] = 2, 4, 8, 1 // BPF_MAP_TYPE_ARRAY, sizes of key and value, entries
		return descriptor(unix.SYS_BPF, 0, pointer(a), 72)
	})
	add("perf_event_open", func() error {
		a := slices.Clone(attr)
		a[0], a[4] = 1, 128 // PERF_TYPE_SOFTWARE
		return descriptor(unix.SYS_PERF_EVENT_OPEN, pointer(a), 0, ^uintptr(0), ^uintptr(0), 0)
	})
	add("userfaultfd", func() error { return descriptor(unix.SYS_USERFAULTFD, unix.O_CLOEXEC) })
	add("userfaultfd, user mode only", func() error { return descriptor(unix.SYS_USERFAULTFD, unix.O_CLOEXEC|1) })
	add("add_key", func() error {
		const session = ^uintptr(2) // KEY_SPEC_SESSION_KEYRING, -3
		return call(unix.SYS_ADD_KEY, pointer(user), pointer(text), pointer(text), 4, session)
	})
	add("keyctl: read the session's keys", func() error {
		b := make([]byte, 256)
		return call(unix.SYS_KEYCTL, unix.KEYCTL_READ, ^uintptr(2), pointer(b), 256)
	})
	add("request_key", func() error {
		err := call(unix.SYS_REQUEST_KEY, pointer(user), pointer(text), 0, 0)
		if err == unix.ENOKEY {
			return nil // it was looked for
		}
		return err
	})
	add("io_uring", func() error {
		return descriptor(unix.SYS_IO_URING_SETUP, 1, pointer(make([]byte, 120)))
	})
	add("syslog", func() error { return call(unix.SYS_SYSLOG, 10, 0, 0) })
	add("fanotify of the whole file system", func() error { return descriptor(unix.SYS_FANOTIFY_INIT, unix.FAN_CLASS_CONTENT, 0) })
	add("ports of the processor", func() error { return call(unix.SYS_IOPL, 3) })
	add("read the clock's adjustment and set it", func() error {
		_, err := unix.Adjtimex(&unix.Timex{Modes: unix.ADJ_OFFSET})
		return err
	})
	add("file handles", func() error { return byHandle("/etc/passwd") })
	add("address family 38 in disguise", func() error { return descriptor(unix.SYS_SOCKET, unix.AF_ALG|1<<32, unix.SOCK_SEQPACKET, 0) })
	add("address family 40 in disguise", func() error { return descriptor(unix.SYS_SOCKET, unix.AF_VSOCK|1<<32, unix.SOCK_STREAM, 0) })
	add("pair of sockets of TIPC", func() error {
		var pair [2]int32
		return call(unix.SYS_SOCKETPAIR, unix.AF_TIPC, unix.SOCK_SEQPACKET, 0, uintptr(unsafe.Pointer(&pair)))
	})
	add("another ABI", func() error {
		if foreignGetpid() != int32(os.Getpid()) {
			return unix.ENOTSUP
		}
		return nil
	})
	if s.control {
		return all // the rest would harm the machine
	}
	for name, number := range map[string]uintptr{
		"kexec_load": unix.SYS_KEXEC_LOAD, "init_module": unix.SYS_INIT_MODULE, "finit_module": unix.SYS_FINIT_MODULE, "delete_module": unix.SYS_DELETE_MODULE,
		"acct": unix.SYS_ACCT, "swapon": unix.SYS_SWAPON, "swapoff": unix.SYS_SWAPOFF, "quotactl": unix.SYS_QUOTACTL, "vhangup": unix.SYS_VHANGUP,
		"lookup_dcookie": unix.SYS_LOOKUP_DCOOKIE,
	} {
		add(name, func() error { return permitted(call(number, 0, 0, 0, 0)) })
	}
	add("reboot", func() error { return permitted(call(unix.SYS_REBOOT, 0xfee1dead, 0x28121969, 0)) })
	add("set the time", func() error {
		now := unix.NsecToTimespec(time.Now().UnixNano())
		return unix.ClockSettime(unix.CLOCK_REALTIME, &now)
	})
	for name, request := range map[string]uintptr{"TIOCSTI": unix.TIOCSTI, "TIOCSTI in disguise": unix.TIOCSTI | 1<<32, "TIOCSTI, signed": unix.TIOCSTI | 0xffffffff<<32, "TIOCLINUX": unix.TIOCLINUX} {
		add(name, func() error { return permitted(call(unix.SYS_IOCTL, 0, request, pointer(text))) })
	}
	add("x32", func() error { return call(unix.SYS_GETPID | 0x40000000) })
	add("another user's ID", func() error {
		_, _, errno := syscall.RawSyscall(unix.SYS_SETRESUID, 65534, 65534, 65534)
		if errno != 0 {
			return errno
		}
		if err := exec.Command("/bin/su", "-c", "true").Run(); err != nil {
			return err
		}
		return nil
	})
	add("without the filter", func() error {
		if _, err := unix.PrctlRetInt(unix.PR_SET_SECCOMP, 0, 0, 0, 0); err != nil {
			return err
		}
		return nil
	})
	add("with new privileges", func() error { return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0) })
	return all
}

// descriptor is call for what gives a descriptor.
func descriptor(number uintptr, args ...uintptr) error {
	var a [6]uintptr
	copy(a[:], args)
	fd, _, errno := unix.Syscall6(number, a[0], a[1], a[2], a[3], a[4], a[5])
	if errno != 0 {
		return errno
	}
	return unix.Close(int(fd))
}

// permitted takes an error about arguments, which are wrong on purpose, for permission.
func permitted(err error) error {
	if err == unix.EFAULT || err == unix.EINVAL || err == unix.ENOENT || err == unix.ENOTTY {
		return nil
	}
	return err
}

// foreignGetpid calls getpid through the 32-bit ABI of amd64; elsewhere there is none.
func foreignGetpid() int32 {
	if runtime.GOARCH != "amd64" {
		return 0
	}
	code, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return 0
	}
	copy(code, []byte{
		0xb8, 20, 0, 0, 0, // mov eax, getpid
		0xcd, 0x80, // int 0x80
		0xc3, // ret
	})
	start := unsafe.Pointer(&code[0])
	closure := unsafe.Pointer(&start)
	return (*(*func() int32)(unsafe.Pointer(&closure)))()
}
