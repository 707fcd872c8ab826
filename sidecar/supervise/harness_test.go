package supervise

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// sandbox is a running "init" of a test.
type sandbox struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout *output
	stderr *output
}

// output collects what a process writes, and lets a test wait for a text.
type output struct {
	mu    sync.Mutex
	b     bytes.Buffer
	added chan struct{}
}

func newOutput() *output { return &output{added: make(chan struct{}, 1)} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case o.added <- struct{}{}:
	default:
	}
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// await waits until text was written.
func (o *output) await(t *testing.T, text string) {
	t.Helper()
	timeout := time.After(30 * time.Second)
	for !strings.Contains(o.String(), text) {
		select {
		case <-o.added:
		case <-timeout:
			t.Fatalf("%q did not appear in:\n%s", text, o)
		}
	}
}

type option func(*exec.Cmd)

// asUser starts init as an ordinary user.
func asUser(uid uint32) option {
	return func(cmd *exec.Cmd) {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: uid}
	}
}

func withEnv(pairs ...string) option {
	return func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, pairs...) }
}

func inDir(dir string) option { return func(cmd *exec.Cmd) { cmd.Dir = dir } }

func withFile(f *os.File) option {
	return func(cmd *exec.Cmd) { cmd.ExtraFiles = append(cmd.ExtraFiles, f) }
}

// start starts a sandbox; it is killed with the test if it still runs then.
func start(t *testing.T, p part, options ...option) *sandbox {
	t.Helper()
	settings, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	s := &sandbox{t: t, stdout: newOutput(), stderr: newOutput()}
	s.cmd = exec.Command(program(t), "init", string(settings))
	s.cmd.Stdout, s.cmd.Stderr = s.stdout, s.stderr
	s.cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/root"}
	s.cmd.Dir = "/"
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	for _, option := range options {
		option(s.cmd)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.cmd.ProcessState == nil {
			s.cmd.Process.Kill()
			s.cmd.Wait()
		}
	})
	return s
}

// wait waits for the end and gives the exit status.
func (s *sandbox) wait() int {
	s.t.Helper()
	timer := time.AfterFunc(time.Minute, func() { s.cmd.Process.Kill() })
	defer timer.Stop()
	err := s.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	return exitCode(s.cmd.ProcessState.Sys().(syscall.WaitStatus))
}

// run runs a command in a sandbox to its end.
func run(t *testing.T, p part, options ...option) (status int, stdout, stderr string) {
	t.Helper()
	s := start(t, p, options...)
	status = s.wait()
	return status, s.stdout.String(), s.stderr.String()
}

// mustRun is run of a command that must succeed.
func mustRun(t *testing.T, p part, options ...option) string {
	t.Helper()
	status, stdout, stderr := run(t, p, options...)
	if status != 0 {
		t.Fatalf("%q: exit status %d\n%s%s", p.Command, status, stdout, stderr)
	}
	return stdout
}

// sh is a part whose agent runs a shell script.
func sh(script string) part { return part{Command: []string{"sh", "-c", script}} }
