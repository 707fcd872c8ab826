package netnstest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// stageVar tells a test binary that was started again where it is.
const stageVar = "SALLYPORT_NETNSTEST"

const (
	stagePrivate = "private" // in its own namespaces, not set up yet
	stageInside  = "inside"  // in a sealed namespace, running one test
)

// Main is the whole of a TestMain: it runs the tests in new namespaces and exits.
func Main(m *testing.M) {
	code, err := 0, error(nil)
	switch os.Getenv(stageVar) {
	case stageInside:
		code = m.Run()
	case stagePrivate:
		if err = setUp(); err == nil {
			code = m.Run()
		}
	default:
		code, err = runPrivate()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "netnstest:", err)
		code = 1
	}
	os.Exit(code)
}

// runPrivate runs the test binary again in new namespaces, to the end.
func runPrivate() (code int, err error) {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), stageVar+"="+stagePrivate)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS,
		Pdeathsig:  unix.SIGKILL,
	}
	if os.Geteuid() != 0 {
		addUserNamespace(cmd.SysProcAttr)
	}
	runtime.LockOSThread() // Pdeathsig is about the thread, not the process
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	if err != nil {
		return 1, fmt.Errorf("run the tests in new namespaces: %w: does this machine allow user namespaces?", err)
	}
	return 0, nil
}

func addUserNamespace(attr *syscall.SysProcAttr) {
	attr.Cloneflags |= unix.CLONE_NEWUSER
	attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
	attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
}

// setUp makes the namespaces usable: lo as everywhere, and a /run where
// "ip netns add" and locks leave nothing behind.
func setUp() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("mount a private /run: %w", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}
