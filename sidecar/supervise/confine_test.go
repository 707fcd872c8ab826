package supervise

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// kernelCalls are those by which a process changes the machine, looks into others
// or reaches the worst of the kernel's holes. With no argument that means anything,
// they fail for that reason unless a filter is before it.
func kernelCalls() map[string]uintptr {
	return map[string]uintptr{
		"add_key": unix.SYS_ADD_KEY, "bpf": unix.SYS_BPF, "chroot": unix.SYS_CHROOT, "delete_module": unix.SYS_DELETE_MODULE,
		"finit_module": unix.SYS_FINIT_MODULE, "fsmount": unix.SYS_FSMOUNT, "fsopen": unix.SYS_FSOPEN, "init_module": unix.SYS_INIT_MODULE,
		"kexec_file_load": unix.SYS_KEXEC_FILE_LOAD, "kexec_load": unix.SYS_KEXEC_LOAD,
		"keyctl": unix.SYS_KEYCTL, "mount": unix.SYS_MOUNT, "move_mount": unix.SYS_MOVE_MOUNT,
		"open_by_handle_at": unix.SYS_OPEN_BY_HANDLE_AT, "open_tree": unix.SYS_OPEN_TREE, "perf_event_open": unix.SYS_PERF_EVENT_OPEN,
		"pivot_root": unix.SYS_PIVOT_ROOT, "process_vm_readv": unix.SYS_PROCESS_VM_READV, "process_vm_writev": unix.SYS_PROCESS_VM_WRITEV,
		"ptrace": unix.SYS_PTRACE, "quotactl": unix.SYS_QUOTACTL, "reboot": unix.SYS_REBOOT, "request_key": unix.SYS_REQUEST_KEY,
		"swapon": unix.SYS_SWAPON, "syslog": unix.SYS_SYSLOG, "umount2": unix.SYS_UMOUNT2, "userfaultfd": unix.SYS_USERFAULTFD,
	}
}

// workerCalls are more that a worker has no use for.
func workerCalls() map[string]uintptr {
	return map[string]uintptr{
		"capset": unix.SYS_CAPSET, "execve": unix.SYS_EXECVE, "execveat": unix.SYS_EXECVEAT, "fallocate": unix.SYS_FALLOCATE,
		"fchmod": unix.SYS_FCHMOD, "fchown": unix.SYS_FCHOWN, "ftruncate": unix.SYS_FTRUNCATE, "inotify_init1": unix.SYS_INOTIFY_INIT1, "ioctl": unix.SYS_IOCTL,
		"io_uring_setup": unix.SYS_IO_URING_SETUP, "kcmp": unix.SYS_KCMP, "kill": unix.SYS_KILL, "linkat": unix.SYS_LINKAT, "memfd_create": unix.SYS_MEMFD_CREATE, "mkdirat": unix.SYS_MKDIRAT,
		"mknodat": unix.SYS_MKNODAT, "mq_open": unix.SYS_MQ_OPEN, "name_to_handle_at": unix.SYS_NAME_TO_HANDLE_AT, "personality": unix.SYS_PERSONALITY,
		"pidfd_getfd": unix.SYS_PIDFD_GETFD, "pidfd_open": unix.SYS_PIDFD_OPEN, "pidfd_send_signal": unix.SYS_PIDFD_SEND_SIGNAL, "prctl": unix.SYS_PRCTL,
		"prlimit64": unix.SYS_PRLIMIT64, "renameat2": unix.SYS_RENAMEAT2, "rt_sigqueueinfo": unix.SYS_RT_SIGQUEUEINFO, "seccomp": unix.SYS_SECCOMP,
		"setgid": unix.SYS_SETGID, "setgroups": unix.SYS_SETGROUPS, "setns": unix.SYS_SETNS, "setpriority": unix.SYS_SETPRIORITY, "setuid": unix.SYS_SETUID,
		"shmget": unix.SYS_SHMGET, "socketpair": unix.SYS_SOCKETPAIR, "symlinkat": unix.SYS_SYMLINKAT,
		"tkill": unix.SYS_TKILL, "unlinkat": unix.SYS_UNLINKAT, "unshare": unix.SYS_UNSHARE, "utimensat": unix.SYS_UTIMENSAT,
	}
}

// attackKernel makes every call. Those that stop a thread or a process for ever
// are not among them.
func attackKernel(out io.Writer, calls map[string]uintptr) {
	const bad = ^uintptr(0)
	for _, name := range slices.Sorted(maps.Keys(calls)) {
		_, _, errno := unix.RawSyscall6(calls[name], bad, bad, bad, bad, bad, bad)
		fmt.Fprintf(out, "call %s: %v\n", name, errno)
	}
}

// attackMemory looks for a way to run other code than the program's.
func attackMemory(out io.Writer) {
	_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
	fmt.Fprintln(out, "map code:", err)
	page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err == nil {
		err = unix.Mprotect(page, unix.PROT_READ|unix.PROT_EXEC)
	}
	fmt.Fprintln(out, "make code:", err)
}

// attackClone tries to make a process, in a user namespace too, where it would
// have every capability.
func attackClone(out io.Writer) {
	for name, flags := range map[string]uintptr{"fork": 0, "clone user namespace": unix.CLONE_NEWUSER, "clone thread in a namespace": unix.CLONE_NEWNET} {
		pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, flags|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if errno == 0 && pid == 0 {
			unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
		fmt.Fprintf(out, "%s: %v\n", name, errno)
	}
	_, _, errno := unix.RawSyscall(unix.SYS_CLONE3, 0, 0, 0)
	fmt.Fprintln(out, "clone3:", errno)
}

// attackAsInit tries what an init that was taken over would, once it has what it
// needs no more behind it.
func attackAsInit(out io.Writer) {
	for !bytes.Contains(must(os.ReadFile("/proc/self/status")), []byte("Seccomp:\t2")) {
		time.Sleep(time.Millisecond)
	}
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	fmt.Fprintln(out, "dumpable:", dumpable, err)
	attackKernel(out, kernelCalls())
	for _, path := range []string{"/etc/sallyport-attack", "/var/lib/sallyport-attack", "/tmp/sallyport-attack", "/proc/sys/kernel/core_pattern"} {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
		if err == nil {
			f.Close()
		}
		fmt.Fprintln(out, "write:", err)
	}
	_, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 0, 0, 0)
	fmt.Fprintln(out, "io_uring:", errno)
	_, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	fmt.Fprintln(out, "packet socket:", err)
	fmt.Fprintln(out, "attacked")
}

func TestInitIsConfined(t *testing.T) {
	eachUser(t, func(t *testing.T, options ...option) {
		p := sh("echo started; read x")
		p.Behaviour = "attack as init"
		s := start(t, p, options...)
		s.stderr.await(t, "attacked")
		_, results, _ := strings.Cut(s.stderr.String(), "dumpable:")
		results, _, _ = strings.Cut("dumpable:"+results, "attacked\n")
		expect(t, results, map[string]string{
			"dumpable":      "0 <nil>",
			"call *":        "operation not permitted",
			"io_uring":      "function not implemented",
			"write":         "open /etc/sallyport-attack: permission denied|open /var/lib/sallyport-attack: permission denied|open /tmp/sallyport-attack: permission denied|open /proc/sys/kernel/core_pattern: permission denied",
			"packet socket": "operation not permitted",
		})
		keep := []cap.Value{cap.KILL, cap.SETGID, cap.SETUID, cap.SETPCAP, cap.SYS_RESOURCE}
		if len(options) > 0 {
			keep = []cap.Value{cap.SETPCAP}
		}
		want := capabilities(t, keep...)
		status := procStatus(t, s.init())
		for _, name := range []string{"CapPrm", "CapEff", "CapBnd"} {
			if status[name] != want {
				t.Errorf("%s of init is %q, want %q", name, status[name], want)
			}
		}
		for name, want := range map[string]string{"CapInh": "0000000000000000", "CapAmb": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2"} {
			if status[name] != want {
				t.Errorf("%s of init is %q, want %q", name, status[name], want)
			}
		}
	})
}

// capabilities gives a set as /proc shows it, of those that the test itself may have.
func capabilities(t *testing.T, values ...cap.Value) string {
	t.Helper()
	var set uint64
	for _, value := range values {
		if has, err := cap.GetBound(value); err != nil {
			t.Fatal(err)
		} else if has {
			set |= 1 << value
		}
	}
	return fmt.Sprintf("%016x", set)
}
