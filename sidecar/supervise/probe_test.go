package supervise

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// probe is what an agent under test does: each attack prints its name and what
// the kernel said.
func probe(name string, args []string) error {
	switch name {
	case "processes":
		return probeProcesses(args)
	case "mounts":
		return probeMounts()
	case "network":
		return probeNetwork(args[0])
	case "calls":
		return probeCalls()
	case "descriptors":
		return probeDescriptors()
	case "get":
		response, err := http.Get(args[0])
		if err == nil {
			response.Body.Close()
		}
		return err
	case "queues":
		fmt.Println("queues:", len(fillQueues()))
		_, _ = os.Stdin.Read(make([]byte, 1)) // they last until somebody has looked
		return nil
	case "search":
		return probeSearch(args[0])
	}
	return fmt.Errorf("no probe %q", name)
}

func tell(attack string, err error) {
	var errno syscall.Errno
	switch {
	case err == nil:
		fmt.Printf("%s: done\n", attack)
	case errors.As(err, &errno):
		fmt.Printf("%s: %s\n", attack, unix.ErrnoName(errno))
	default:
		fmt.Printf("%s: %v\n", attack, err)
	}
}

// probeProcesses goes for the processes outside, by the pids they have there,
// and for PID 1.
func probeProcesses(pids []string) error {
	entries, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry == fmt.Sprintf("/proc/%d", os.Getpid()) {
			continue
		}
		fmt.Printf("visible: %s\n", entry)
	}
	for _, text := range append(pids, "1") {
		pid, err := strconv.Atoi(text)
		if err != nil {
			return err
		}
		name := "outside "
		if pid == 1 {
			name = "pid 1 "
		}
		runtime.LockOSThread()
		if pid != 1 {
			tell(name+"kill", unix.Kill(pid, 0))
		}
		tell(name+"ptrace", unix.PtraceAttach(pid))
		_, err = unix.PidfdOpen(pid, 0)
		if pid != 1 {
			tell(name+"pidfd", err)
		}
		local := make([]byte, 8)
		_, err = unix.ProcessVMReadv(pid, []unix.Iovec{{Base: &local[0], Len: 8}}, []unix.RemoteIovec{{Base: 0x400000, Len: 8}}, 0)
		tell(name+"process_vm_readv", err)
		for _, file := range []string{"environ", "mem", "maps", "fd", "root", "ns/net"} {
			f, err := os.Open(fmt.Sprintf("/proc/%d/%s", pid, file))
			if err == nil {
				f.Close()
			}
			tell(name+file, err)
		}
	}
	fd, err := unix.PidfdOpen(1, 0)
	if err == nil {
		_, err = unix.PidfdGetfd(fd, 0, 0)
	}
	tell("pid 1 pidfd_getfd", err)
	return nil
}

// probeMounts tries to undo what the sandbox's mounts hide, as root and in a
// mount namespace of its own, where it has every capability.
func probeMounts() error {
	covered := []string{"/proc", "/proc/sys", "/dev", "/run", "/run/sallyport", "/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt"}
	undo := func(where string) {
		for _, path := range covered {
			tell(where+" umount "+path, unix.Unmount(path, unix.MNT_DETACH))
			tell(where+" remount "+path, unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_BIND, ""))
		}
		tell(where+" mount sysfs", unix.Mount("sysfs", "/sys", "sysfs", 0, ""))
		tell(where+" mount disk", unix.Mount("/dev/vda", "/tmp", "ext4", 0, ""))
	}
	tell("write trust", os.WriteFile("/run/sallyport/ca.pem", nil, 0o600))
	tell("replace trust", os.Rename("/run/sallyport", "/run/elsewhere"))
	tell("write resolv.conf", os.WriteFile("/etc/resolv.conf", nil, 0o600))
	tell("write /proc/sys", os.WriteFile("/proc/sys/kernel/core_pattern", []byte("|/x"), 0o600))
	tell("mknod", unix.Mknod("/run/disk", unix.S_IFBLK|0o600, int(unix.Mkdev(254, 0))))
	undo("here")
	runtime.LockOSThread()
	tell("unshare", unix.Unshare(unix.CLONE_NEWNS))
	undo("own")
	tell("mknod in own", unix.Mknod("/run/disk", unix.S_IFBLK|0o600, int(unix.Mkdev(254, 0))))
	return nil
}

// probeNetwork tries to get at another network namespace or to change this one.
func probeNetwork(netns string) error {
	runtime.LockOSThread()
	f, err := os.Open(netns)
	if err != nil {
		return err
	}
	tell("enter the outer network", unix.Setns(int(f.Fd()), unix.CLONE_NEWNET))
	own, err := os.Open("/proc/self/ns/net")
	if err != nil {
		return err
	}
	tell("enter the own network", unix.Setns(int(own.Fd()), unix.CLONE_NEWNET))
	_, err = unix.IoctlRetInt(int(own.Fd()), unix.NS_GET_USERNS)
	tell("owner of the network", err)
	_, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_TCP)
	tell("raw socket", err)
	_, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	tell("packet socket", err)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	tell("mark", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, 1))
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(0)
	tell("lo down", unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request))
	return nil
}

// probeCalls makes the system calls that are refused, plainly and disguised.
func probeCalls() error {
	raw := func(name string, number uintptr, args ...uintptr) {
		var a [6]uintptr
		copy(a[:], args)
		_, _, errno := unix.Syscall6(number, a[0], a[1], a[2], a[3], a[4], a[5])
		var err error
		if errno != 0 {
			err = errno
		}
		tell(name, err)
	}
	const disguise = 1 << 32
	raw("bpf", unix.SYS_BPF)
	raw("perf_event_open", unix.SYS_PERF_EVENT_OPEN)
	raw("userfaultfd", unix.SYS_USERFAULTFD)
	raw("keyctl", unix.SYS_KEYCTL)
	raw("add_key", unix.SYS_ADD_KEY)
	raw("open_by_handle_at", unix.SYS_OPEN_BY_HANDLE_AT)
	raw("finit_module", unix.SYS_FINIT_MODULE)
	raw("kexec_load", unix.SYS_KEXEC_LOAD)
	raw("io_uring_setup", unix.SYS_IO_URING_SETUP, 1)
	raw("vsock", unix.SYS_SOCKET, unix.AF_VSOCK, unix.SOCK_STREAM)
	raw("vsock disguised", unix.SYS_SOCKET, unix.AF_VSOCK|disguise, unix.SOCK_STREAM)
	raw("alg", unix.SYS_SOCKET, unix.AF_ALG, unix.SOCK_SEQPACKET)
	raw("inet disguised", unix.SYS_SOCKET, unix.AF_INET|disguise, unix.SOCK_STREAM)
	raw("tiocsti", unix.SYS_IOCTL, 0, unix.TIOCSTI)
	raw("tiocsti disguised", unix.SYS_IOCTL, 0, unix.TIOCSTI|disguise)
	raw("tiocsti signed", unix.SYS_IOCTL, 0, unix.TIOCSTI|0xffffffff<<32)
	raw("tioclinux", unix.SYS_IOCTL, 0, unix.TIOCLINUX)
	raw("other ioctl", unix.SYS_IOCTL, 99, unix.TIOCGWINSZ)
	fmt.Printf("foreign ABI: %d\n", foreignGetpid())
	return nil
}

// foreignGetpid calls getpid through the 32-bit ABI of amd64; elsewhere there
// is none and it says what a refusal would.
func foreignGetpid() int32 {
	if runtime.GOARCH != "amd64" {
		return -int32(unix.ENOSYS)
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

func probeDescriptors() error {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, fd := range fds {
		target, err := os.Readlink("/proc/self/fd/" + fd.Name())
		if err != nil || strings.HasPrefix(target, "anon_inode:") || strings.HasPrefix(target, "/proc/") || strings.HasPrefix(target, "/sys/fs/cgroup/") {
			continue // this program's own
		}
		fmt.Println("open:", fd.Name())
	}
	return nil
}

// probeSearch looks for the text in a file wherever an agent can read processes.
func probeSearch(path string) error {
	word, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	files, err := filepath.Glob("/proc/[0-9]*/*")
	if err != nil {
		return err
	}
	for _, file := range files {
		if base := filepath.Base(file); base != "environ" && base != "cmdline" {
			continue
		}
		if b, err := os.ReadFile(file); err == nil && strings.Contains(string(b), string(word)) {
			fmt.Println("found in", file)
		}
	}
	return nil
}
