package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// ControlPID is the control plane's process.
func (w *World) ControlPID() int {
	w.t.Helper()
	if w.control == nil {
		w.t.Fatal("there is no control plane")
	}
	return w.control.PID
}

// AwaitControlDeath waits until the control plane has ended by itself, and gives what it said.
func (w *World) AwaitControlDeath() string {
	w.t.Helper()
	w.control.Wait()
	said := w.control.output()
	w.control = nil
	return said
}

// Answers reports whether the control plane does, to a call that takes some memory.
func (w *World) Answers() bool {
	w.t.Helper()
	return w.TryCLI("", "vault", "list").Status == 0
}

// Freeze stops a process, as a snapshot of its machine does, until thaw is called or the
// test ends.
func (w *World) Freeze(pid int) (thaw func()) {
	w.t.Helper()
	w.must(syscall.Kill(pid, syscall.SIGSTOP))
	thaw = func() { _ = syscall.Kill(pid, syscall.SIGCONT) } // it may have ended
	w.t.Cleanup(thaw)
	return thaw
}

// NoDescriptors leaves a process none but those that it has, until more is called.
func (w *World) NoDescriptors(pid int) (more func()) {
	w.t.Helper()
	before := w.prlimit(pid, "--nofile", "--output=SOFT", "--noheadings")
	w.prlimit(pid, "--nofile=3:") // which standard input, output and error are
	return func() {
		w.t.Helper()
		w.prlimit(pid, "--nofile="+before+":")
	}
}

// NoMemory lets a process take no more memory than it has.
func (w *World) NoMemory(pid int) {
	w.t.Helper()
	w.prlimit(pid, "--data=1:", "--as=1:")
}

// prlimit runs prlimit(1) on a process as its user, who may do so without a right.
func (w *World) prlimit(pid int, flags ...string) string {
	w.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	w.must(err)
	cmd := exec.Command("prlimit", append([]string{"--pid", strconv.Itoa(pid)}, flags...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{
		Uid: uint32(field(string(status), "Uid:")), Gid: uint32(field(string(status), "Gid:")),
	}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("prlimit: %v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}
