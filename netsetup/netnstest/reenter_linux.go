package netnstest

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/netsetup"

	"golang.org/x/sys/unix"
)

// User is who a program in a sealed namespace is.
type User string

const (
	Owner     User = "owner"      // root of the user namespace that owns the network namespace
	ChildRoot User = "child root" // root of a child user namespace, as in a sandbox
)

// Inside tells whether this process was started by Reenter or Restart.
func Inside() bool { return os.Getenv(stageVar) == stageInside }

// Seal seals a new namespace for the length of the test.
func Seal(t *testing.T, c netsetup.Config) *netsetup.Namespace {
	t.Helper()
	ns, err := netsetup.Seal(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ns.Close(); err != nil {
			t.Error(err)
		}
	})
	return ns
}

// Reenter runs the calling test once more, from its top and alone, as a process
// of user inside ns, where Inside is true. The test fails with what that one says
// if it fails.
func Reenter(t *testing.T, ns *netsetup.Namespace, user User, env ...string) {
	t.Helper()
	cmd := again(t, env)
	if user == ChildRoot {
		addUserNamespace(cmd.SysProcAttr)
	}
	var out []byte
	err := ns.Do(func() (err error) {
		out, err = cmd.CombinedOutput()
		return err
	})
	if err != nil {
		t.Errorf("as %s inside: %v\n%s", user, err, out)
	}
}

// Restart is Reenter without entering anything: for what a test does to its
// whole process.
func Restart(t *testing.T, env ...string) {
	t.Helper()
	if out, err := again(t, env).CombinedOutput(); err != nil {
		t.Errorf("in a process of its own: %v\n%s", err, out)
	}
}

func again(t *testing.T, env []string) *exec.Cmd {
	test, _, _ := strings.Cut(t.Name(), "/")
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.v", "-test.count=1", "-test.run=^"+test+"$")
	// The race detector would wait a second before it lets the process end.
	cmd.Env = append(append(os.Environ(), stageVar+"="+stageInside, "GORACE=atexit_sleep_ms=0"), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	return cmd
}

// nobody is a user with no privilege and no processes of its own.
const nobody = 65534

// Unprivileged runs all tests of the calling package once more as a user without
// privilege, if this is root; if it is not, they run so already.
func Unprivileged(t *testing.T) {
	t.Helper()
	if privileged, err := inFirstUserNamespace(); err != nil {
		t.Fatal(err)
	} else if !privileged {
		return
	}
	// The binary may be where nobody can't go: it is run by its descriptor.
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer exe.Close()
	cmd := exec.CommandContext(t.Context(), "/proc/self/fd/3", "-test.v", "-test.count=1")
	if end, ok := t.Deadline(); ok {
		cmd.Args = append(cmd.Args, "-test.timeout="+time.Until(end).String())
	}
	cmd.ExtraFiles = []*os.File{exe}
	cmd.Env = append(os.Environ(), stageVar+"=", "HOME=/", "TMPDIR=/tmp")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("as uid %d: %v\n%s", nobody, err, out)
	}
}

// inFirstUserNamespace tells whether this process is root without a user
// namespace of its own: only there is every user mapped.
func inFirstUserNamespace() (bool, error) {
	b, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return false, err
	}
	var inside, outside, count uint32
	if _, err := fmt.Sscan(string(b), &inside, &outside, &count); err != nil {
		return false, err
	}
	return unix.Geteuid() == 0 && count > nobody, nil
}
