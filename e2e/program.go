package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Program is a process that a test talks to while it runs.
type Program struct {
	PID     int
	Metrics string // URL, if it serves any

	w     *World
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string // of standard output
	all   *buffer     // standard output and error
	done  chan struct{}
	err   error // of the process, once done is closed
}

// start runs a command. Its output is read all the time, so it never blocks.
func (w *World) start(name string, command ...string) *Program {
	w.t.Helper()
	return w.startCommand(name, exec.Command(command[0], command[1:]...))
}

func (w *World) startCommand(name string, cmd *exec.Cmd) *Program {
	w.t.Helper()
	p := &Program{w: w, name: name, cmd: cmd, lines: make(chan string, 1024), all: new(buffer), done: make(chan struct{})}
	stdout, stdoutEnd, err := os.Pipe()
	w.must(err)
	p.cmd.Stdout, p.cmd.Stderr = stdoutEnd, p.all
	// Not a grandchild that kept standard error: only the process itself is waited for.
	p.cmd.WaitDelay = time.Second
	p.stdin, err = p.cmd.StdinPipe()
	w.must(err)
	if err := p.cmd.Start(); err != nil {
		w.t.Fatalf("start %s: %v", name, err)
	}
	stdoutEnd.Close()
	p.PID = p.cmd.Process.Pid
	var reading sync.WaitGroup
	reading.Go(func() { p.read(stdout) })
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	w.t.Cleanup(func() {
		p.Stop()
		stdout.Close()
		reading.Wait()
		if w.t.Failed() {
			w.t.Logf("%s said:\n%s", name, p.output())
		}
	})
	return p
}

func (p *Program) read(stdout io.Reader) {
	defer close(p.lines)
	scanner := bufio.NewScanner(stdout)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		fmt.Fprintln(p.all, scanner.Text())
		p.lines <- scanner.Text()
	}
}

// Say writes a line to the program's standard input.
func (p *Program) Say(line string) {
	p.w.t.Helper()
	if _, err := io.WriteString(p.stdin, line+"\n"); err != nil {
		p.w.t.Fatalf("%s no longer listens: %v\n%s", p.name, err, p.output())
	}
}

// Line is the next line of its standard output.
func (p *Program) Line() string {
	p.w.t.Helper()
	select {
	case line, ok := <-p.lines:
		if !ok {
			<-p.done
			p.w.t.Fatalf("%s ended (%v) and has nothing more to say:\n%s", p.name, p.err, p.output())
		}
		return line
	case <-time.After(patience):
		p.w.t.Fatalf("%s said nothing for %s:\n%s", p.name, patience, p.output())
	}
	return ""
}

// NextLine is the next line of its standard output, which it may have said at any
// time before it ended; false when there is none left.
func (p *Program) NextLine() (line string, ok bool) {
	line, ok = <-p.lines
	return line, ok
}

// Ask says a line and gives the one that answers it.
func (p *Program) Ask(line string) string {
	p.w.t.Helper()
	p.Say(line)
	return p.Line()
}

// Signal sends a signal to the program.
func (p *Program) Signal(s syscall.Signal) {
	p.w.t.Helper()
	p.w.must(p.cmd.Process.Signal(s))
}

// Wait waits for the program to end by itself and gives its exit status.
func (p *Program) Wait() int {
	p.w.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.w.t.Fatalf("%s has not ended after %s:\n%s", p.name, patience, p.output())
	}
	return p.cmd.ProcessState.ExitCode()
}

// Stop closes the program's input, asks it to end and waits until it has.
func (p *Program) Stop() {
	p.w.t.Helper()
	p.stdin.Close()
	select {
	case <-p.done:
		return
	default:
	}
	// It may have ended since; then there is nobody to ask.
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
		p.w.t.Errorf("%s did not end within %s of SIGTERM", p.name, patience)
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// Output is all that it has written so far.
func (p *Program) Output() string { return p.output() }

func (p *Program) output() string { return strings.TrimSpace(p.all.String()) }

// buffer is a bytes.Buffer for several writers.
type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *buffer) Write(text []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(text)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
