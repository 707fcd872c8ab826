package supervise

import (
	"fmt"
	"math/bits"
	"unsafe"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	refuse      = seccomp.ActionErrno // EPERM
	unsupported = seccomp.ActionErrno | seccomp.Action(unix.ENOSYS)
)

// loadFilter installs a policy on every thread, now and for ever.
//
// The library lets a foreign system call ABI fall through to the default
// action, which on a policy of refusals would be a way around all of it (int
// 0x80 on amd64). So another ABI is refused first.
func loadFilter(policy seccomp.Policy, err error) error {
	if err != nil {
		return err
	}
	native, err := arch.GetInfo("")
	if err != nil {
		return fmt.Errorf("seccomp: %w", err)
	}
	const archOffset = 4 // in struct seccomp_data
	program := []bpf.Instruction{
		bpf.LoadAbsolute{Off: archOffset, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(native.ID), SkipTrue: 1},
		bpf.RetConstant{Val: uint32(unsupported)},
	}
	body, err := policy.Assemble()
	if err != nil {
		return fmt.Errorf("assemble the seccomp filter: %w", err)
	}
	raw, err := bpf.Assemble(append(program, body...))
	if err != nil {
		return fmt.Errorf("assemble the seccomp filter: %w", err)
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, in := range raw {
		filter[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("load the seccomp filter: %w", errno)
	}
	if thread != 0 {
		return fmt.Errorf("load the seccomp filter: thread %d did not take it", thread)
	}
	return nil
}

// known keeps the names that exist on this architecture; old calls such as
// stat are missing on newer ones.
func known(names []string) ([]string, error) {
	native, err := arch.GetInfo("")
	if err != nil {
		return nil, fmt.Errorf("seccomp: %w", err)
	}
	var have []string
	for _, name := range names {
		if _, ok := native.SyscallNames[name]; ok {
			have = append(have, name)
		}
	}
	return have, nil
}

// agentPolicy refuses what an agent has no use for and what the kernel's worst
// holes were found in. Namespaces and ptrace stay: they end at its own walls.
func agentPolicy() (seccomp.Policy, error) {
	refused, err := known([]string{
		"acct", "add_key", "bpf", "delete_module", "finit_module", "init_module",
		"kexec_file_load", "kexec_load", "keyctl", "lookup_dcookie", "open_by_handle_at",
		"perf_event_open", "quotactl", "quotactl_fd", "reboot", "request_key", "swapoff",
		"swapon", "syslog", "userfaultfd", "vhangup",
	})
	if err != nil {
		return seccomp.Policy{}, err
	}
	// An io_uring opens sockets that no filter sees. Programs fall back on ENOSYS.
	rings, err := known([]string{"io_uring_setup", "io_uring_enter", "io_uring_register"})
	if err != nil {
		return seccomp.Policy{}, err
	}
	return seccomp.Policy{
		DefaultAction: seccomp.ActionAllow,
		Syscalls: []seccomp.SyscallGroup{
			{Action: refuse, Names: refused},
			{Action: unsupported, Names: rings},
			{Action: refuse, NamesWithCondtions: []seccomp.NameWithConditions{
				// Any other family is a way around the network (AF_VSOCK) or kernel
				// code that nobody here needs (AF_ALG, AF_TIPC, …).
				{Name: "socket", Conditions: noneOf(0, unix.AF_UNIX, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK, unix.AF_PACKET)},
				// Both type into the terminal as if the user did.
				{Name: "ioctl", Conditions: low32(1, unix.TIOCSTI)},
				{Name: "ioctl", Conditions: low32(1, unix.TIOCLINUX)},
			}},
		},
	}, nil
}

// initPolicy is what init gives up once the sandbox stands, on top of what an
// agent does without. Starting workers and undoing a seal need none of it.
func initPolicy() (seccomp.Policy, error) {
	policy, err := agentPolicy()
	if err != nil {
		return seccomp.Policy{}, err
	}
	refused, err := known([]string{
		"chroot", "fsconfig", "fsmount", "fsopen", "fspick", "mount", "mount_setattr", "move_mount", "open_tree", "pivot_root",
		"process_vm_readv", "process_vm_writev", "ptrace", "umount2",
	})
	if err != nil {
		return seccomp.Policy{}, err
	}
	policy.Syscalls = append(policy.Syscalls, seccomp.SyscallGroup{Action: refuse, Names: refused})
	return policy, nil
}

// workerPolicy allows what the Go runtime and the network need, for sockets of
// IP alone. No exec, no process, no new code, no file but what is read, no signal
// but to itself.
func workerPolicy() (seccomp.Policy, error) {
	allowed, err := known([]string{
		"accept4", "arch_prctl", "bind", "brk", "clock_getres", "clock_gettime", "clock_nanosleep",
		"close", "connect", "dup", "dup3", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_pwait2", "epoll_wait",
		"eventfd2", "exit", "exit_group", "fcntl", "fstat", "fstatfs", "futex", "futex_waitv", "getcwd",
		"getdents64", "getegid", "geteuid", "getgid", "getpeername", "getpid", "getppid", "getrandom", "getrlimit", "getrusage",
		"getsockname", "getsockopt", "gettid", "gettimeofday", "getuid", "listen", "lseek", "lstat", "madvise",
		"membarrier", "mincore", "mlock", "mlock2", "mremap", "munlock", "munmap", "nanosleep", "newfstatat", "open", "openat",
		"pipe2", "poll", "ppoll", "pread64", "pselect6", "pwrite64", "read", "readlink", "readlinkat", "readv", "recvfrom",
		"recvmmsg", "recvmsg", "restart_syscall", "rseq", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn",
		"rt_sigtimedwait", "sched_getaffinity", "sched_yield", "sendfile", "sendmmsg", "sendmsg", "sendto",
		"set_robust_list", "set_tid_address", "setitimer", "setsockopt", "shutdown", "sigaltstack", "splice", "stat", "statfs", "statx", "sysinfo",
		"tee", "timer_create", "timer_delete", "timer_settime", "uname", "vmsplice", "write", "writev",
	})
	if err != nil {
		return seccomp.Policy{}, err
	}
	const namespaces = unix.CLONE_NEWCGROUP | unix.CLONE_NEWIPC | unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUSER | unix.CLONE_NEWUTS
	notExecutable := seccomp.ArgumentConditions{{Argument: 2, Operation: seccomp.BitsNotSet, Value: unix.PROT_EXEC}}
	groups := []seccomp.SyscallGroup{
		{Action: seccomp.ActionAllow, Names: allowed},
		{Action: seccomp.ActionAllow, NamesWithCondtions: []seccomp.NameWithConditions{
			{Name: "tgkill", Conditions: seccomp.ArgumentConditions{{Argument: 0, Operation: seccomp.Equal, Value: uint64(unix.Getpid())}}},
			// The only file that it has to write.
			{Name: "fdatasync", Conditions: seccomp.ArgumentConditions{{Argument: 0, Operation: seccomp.Equal, Value: recordFD}}},
			{Name: "ftruncate", Conditions: seccomp.ArgumentConditions{{Argument: 0, Operation: seccomp.Equal, Value: recordFD}}},
			// Threads, no processes, and none in a namespace: in a user namespace of its
			// own a process has every capability.
			{Name: "clone", Conditions: seccomp.ArgumentConditions{
				{Argument: 0, Operation: seccomp.BitsSet, Value: unix.CLONE_THREAD},
				{Argument: 0, Operation: seccomp.BitsNotSet, Value: namespaces},
			}},
			// The program is all the code there is.
			{Name: "mmap", Conditions: notExecutable},
			{Name: "mprotect", Conditions: notExecutable},
		}},
		// Its flags are in memory, where no filter sees them. The C library falls back on clone.
		{Action: unsupported, Names: []string{"clone3"}},
	}
	for _, family := range []uint64{unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK} {
		groups = append(groups, seccomp.SyscallGroup{Action: seccomp.ActionAllow, NamesWithCondtions: []seccomp.NameWithConditions{
			{Name: "socket", Conditions: seccomp.ArgumentConditions{{Argument: 0, Operation: seccomp.Equal, Value: family}}},
		}})
	}
	return seccomp.Policy{DefaultAction: refuse, Syscalls: groups}, nil
}

// noneOf holds when the argument is none of values.
func noneOf(argument uint32, values ...uint64) seccomp.ArgumentConditions {
	var all seccomp.ArgumentConditions
	for _, v := range values {
		all = append(all, seccomp.Condition{Argument: argument, Operation: seccomp.NotEqual, Value: v})
	}
	return all
}

// low32 holds when the lower half of the argument is v. The kernel ignores the
// upper half of such arguments, so a filter that compared it could be walked
// around by setting a bit there.
func low32(argument uint32, v uint32) seccomp.ArgumentConditions {
	all := seccomp.ArgumentConditions{{Argument: argument, Operation: seccomp.BitsNotSet, Value: uint64(^v)}}
	for rest := v; rest != 0; rest &= rest - 1 {
		bit := uint64(1) << bits.TrailingZeros32(rest)
		all = append(all, seccomp.Condition{Argument: argument, Operation: seccomp.BitsSet, Value: bit})
	}
	return all
}
