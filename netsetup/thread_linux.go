package netsetup

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

var errGoexit = errors.New("the function ended its goroutine instead of returning")

// onThread runs f on an OS thread of its own and waits for it. The thread is
// never unlocked, so whatever f did to it (its namespaces) dies with it.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The main thread can't end, and it is what /proc/PID/ns shows of
			// the whole process. While we hold it, another one is chosen.
			done <- onThread(f)
			runtime.UnlockOSThread()
			return
		}
		err := errGoexit
		defer func() { done <- err }()
		err = f()
	}()
	return <-done
}

// enter runs f on a thread inside the network namespace ns.
func enter(ns *os.File, f func() error) error {
	return onThread(func() error {
		raw, err := ns.SyscallConn()
		if err != nil {
			return fmt.Errorf("enter the network namespace %s: %w", ns.Name(), err)
		}
		var setns error
		err = raw.Control(func(fd uintptr) { setns = netns.Set(netns.NsHandle(fd)) })
		if errors.Is(setns, unix.EPERM) {
			setns = fmt.Errorf("%w: only root of the user namespace that owns it, or of one above, may", setns)
		}
		if err = errors.Join(err, setns); err != nil {
			return fmt.Errorf("enter the network namespace %s: %w", ns.Name(), err)
		}
		return f()
	})
}

// newNetNS makes a network namespace owned by the caller's user namespace. It
// lives as long as the file, or anything that runs in it.
func newNetNS() (*os.File, error) {
	var ns *os.File
	err := onThread(func() error {
		handle, err := netns.New()
		switch {
		case errors.Is(err, unix.EPERM):
			return fmt.Errorf("make a network namespace: %w: run as root or inside a user namespace", err)
		case errors.Is(err, unix.ENOSPC):
			return fmt.Errorf("make a network namespace: %w: raise the sysctl user.max_net_namespaces", err)
		case err != nil:
			return fmt.Errorf("make a network namespace: %w", err)
		}
		ns = os.NewFile(uintptr(handle), threadNetNS)
		return nil
	})
	return ns, err
}

const threadNetNS = "/proc/thread-self/ns/net"

// openNetNS opens the namespace at path, which must not be the caller's own.
func openNetNS(path string) (*os.File, error) {
	ns, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the network namespace: %w", err)
	}
	theirs, err := ns.Stat()
	if err == nil {
		var ours os.FileInfo
		if ours, err = os.Stat(threadNetNS); err == nil && os.SameFile(ours, theirs) {
			err = errors.New("it is the namespace this process itself runs in, which must keep its way out")
		}
	}
	if err != nil {
		ns.Close()
		return nil, fmt.Errorf("seal %s: %w", path, err)
	}
	return ns, nil
}
