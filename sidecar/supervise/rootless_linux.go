package supervise

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Rootless runs this program again as root of a new user namespace, whose only
// id is the caller's own, and returns its exit status. The network stays the
// caller's. token is the path of the join token: an inherited descriptor is
// handed on under its number, all others are not. When whoever started this
// process is gone and SIGTERM tells so, it returns, and the other program is told alike.
func Rootless(argv []string, token string, signals <-chan os.Signal) (int, error) {
	runtime.LockOSThread() // the child dies with the thread that started it
	defer runtime.UnlockOSThread()
	surviveBrokenPipes()
	if err := closeOnExec(); err != nil {
		return ExitFailure, err
	}
	cmd := exec.Command(self)
	cmd.Args = argv
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if fd, ok := InheritedFD(token); ok && fd > 2 {
		inherited := os.NewFile(uintptr(fd), "join token")
		if inherited == nil {
			return ExitFailure, fmt.Errorf("join token: %d is not a descriptor", fd)
		}
		defer inherited.Close()
		cmd.ExtraFiles = append(slices.Repeat([]*os.File{nil}, fd-3), inherited)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}},
		Pdeathsig:   unix.SIGTERM,
	}
	parent := os.Getppid()
	if err := cmd.Start(); err != nil {
		return ExitFailure, fmt.Errorf("make a user namespace, as we are not root: %w (sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces or kernel.apparmor_restrict_unprivileged_userns may forbid it)", err)
	}
	waited := make(chan error, 1)
	go func() { waited <- cmd.Wait() }()
	var orphaned <-chan time.Time
	for {
		select {
		case err := <-waited:
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				return ExitFailure, fmt.Errorf("wait for init in its user namespace: %w", err)
			}
			return exitCode(cmd.ProcessState.Sys().(syscall.WaitStatus)), nil
		case sig := <-signals:
			_ = cmd.Process.Signal(sig)
			if sig == unix.SIGTERM {
				orphaned = time.After(time.Second)
			}
		case <-orphaned:
			if os.Getppid() != parent {
				return ExitFailure, errors.New("whoever started this is gone")
			}
		}
	}
}
