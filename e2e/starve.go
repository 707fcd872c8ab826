package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
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

// Answers reports whether the control plane does, to many calls at once with long bodies,
// which together take more memory than it has at rest.
func (w *World) Answers() bool {
	w.t.Helper()
	token, body := w.AdminToken(), `{"name": "`+strings.Repeat("n", 400<<10)+`"}`
	var group sync.WaitGroup
	var answered atomic.Int64
	for range 64 {
		group.Go(func() {
			request, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.Server+"/v1/teams/default/vaults", strings.NewReader(body))
			if err != nil {
				w.t.Error(err)
				return
			}
			request.Header.Set("Authorization", "Bearer "+token)
			request.Header.Set("Content-Type", "application/json")
			client := http.Client{Timeout: patience}
			if response, err := client.Do(request); err == nil {
				response.Body.Close()
				answered.Add(1)
			}
		})
	}
	group.Wait()
	return answered.Load() > 0
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
