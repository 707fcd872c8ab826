package stage

import (
	"io"
	"os/exec"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Process is one that was started.
type Process struct {
	*exec.Cmd
	Input  io.WriteCloser // its standard input, unless the command had one
	Output io.Reader      // its standard output
	Log    *Tail          // its standard error
}

// Tail keeps the last of what is written, for messages.
type Tail struct {
	mu   sync.Mutex
	last []byte
}

func (t *Tail) Write(p []byte) (int, error) {
	const most = 4096
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = append(t.last, p...)
	t.last = t.last[max(0, len(t.last)-most):]
	return len(p), nil
}

func (t *Tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.last)
}

// Launch starts a command on a core, -1 for any.
func (s *Stage) Launch(core int, command ...string) (*Process, error) {
	if core >= 0 {
		command = append([]string{"taskset", "--cpu-list", strconv.Itoa(core)}, command...)
	}
	return s.Start(exec.Command(command[0], command[1:]...))
}

// Start starts a command.
func (s *Stage) Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{Cmd: cmd, Log: new(Tail)}
	p.Dir = s.Dir
	p.Stderr = p.Log
	var err error
	if p.Stdin == nil {
		if p.Input, err = p.StdinPipe(); err != nil {
			return nil, err
		}
	}
	if p.Output, err = p.StdoutPipe(); err != nil {
		return nil, err
	}
	return p, p.Cmd.Start()
}

// Server starts a process that ends with the stage.
func (s *Stage) Server(core int, command ...string) (*Process, error) {
	p, err := s.Launch(core, command...)
	if err != nil {
		return nil, err
	}
	s.stops = append(s.stops, p.Stop)
	return p, nil
}

// Stop ends a process, and kills it if it doesn't end.
func (p *Process) Stop() {
	if p.Input != nil {
		p.Input.Close()
	}
	p.Process.Signal(unix.SIGTERM)
	patience := time.AfterFunc(10*time.Second, func() { p.Process.Kill() })
	defer patience.Stop()
	p.Wait()
}
