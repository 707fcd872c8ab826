package supervise

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sandbox is a running "init" of a test.
type sandbox struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdin  io.WriteCloser
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
	program := program(t)
	if len(p.Command) > 0 && p.Command[0] == "probe" {
		p.Command = append([]string{program}, p.Command...)
	}
	p.Command = slices.Clone(p.Command)
	for i, arg := range p.Command {
		p.Command[i] = strings.ReplaceAll(arg, "PROBE", program+" probe")
	}
	settings, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	s := &sandbox{t: t, stdout: newOutput(), stderr: newOutput()}
	s.cmd = exec.Command(program, "init", string(settings))
	s.cmd.Stdout, s.cmd.Stderr = s.stdout, s.stderr
	s.cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/root"}
	s.cmd.Dir = "/"
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if s.stdin, err = s.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
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
	if strings.Contains(s.stderr.String(), "DATA RACE") {
		s.t.Error(s.stderr)
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

// process is a process below a sandbox's init, by what it plays.
func (s *sandbox) process(name string) int {
	s.t.Helper()
	for _, pid := range descendants(s.t, s.cmd.Process.Pid) {
		cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if args := strings.Split(string(cmdline), "\x00"); len(args) > 1 && args[1] == name {
			return pid
		}
	}
	s.t.Fatalf("no %s process below %d", name, s.cmd.Process.Pid)
	return 0
}

// init is the process that Run is in: not the one that was started, if that is of
// an ordinary user.
func (s *sandbox) init() int { return parent(s.t, s.process("worker")) }

// descendants lists the processes below pid.
func descendants(t *testing.T, pid int) []int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	children := make(map[int][]int)
	for _, path := range stats {
		b, _ := os.ReadFile(path)
		_, after, ok := strings.Cut(string(b), ") ")
		fields := strings.Fields(after)
		if !ok || len(fields) < 2 {
			continue // it is gone
		}
		id, _ := strconv.Atoi(strings.Split(path, "/")[2])
		parent, _ := strconv.Atoi(fields[1])
		children[parent] = append(children[parent], id)
	}
	var all []int
	for queue := []int{pid}; len(queue) > 0; queue = queue[1:] {
		all = append(all, children[queue[0]]...)
		queue = append(queue, children[queue[0]]...)
	}
	return all
}

// watched is a process whose end can be waited for, even if its pid is used again.
type watched struct{ pid, fd int }

func watch(t *testing.T, pid int) watched {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatalf("watch process %d: %v", pid, err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return watched{pid, fd}
}

func (w watched) awaitEnd(t *testing.T) {
	t.Helper()
	poll := []unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(poll, 30_000)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if n != 1 || err != nil {
			t.Fatalf("process %d is still there (%v)", w.pid, err)
		}
		return
	}
}

// wrapped starts init by another program, which prepares something for it.
func wrapped(argv ...string) option {
	return func(cmd *exec.Cmd) {
		path, err := exec.LookPath(argv[0])
		if err != nil {
			panic(err)
		}
		cmd.Args = append(slices.Clone(argv), append([]string{cmd.Path}, cmd.Args[1:]...)...)
		cmd.Path = path
	}
}

// sh is a part whose agent runs a shell script.
func sh(script string) part { return part{Command: []string{"sh", "-c", script}} }
