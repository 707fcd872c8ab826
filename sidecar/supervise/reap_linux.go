package supervise

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// reaper waits for every child of this process: those it started itself, and
// the orphans that fall to a PID 1. Nothing else in the process may wait.
type reaper struct {
	mu       sync.Mutex
	children map[int]*child
	sigchld  chan os.Signal
	owner    *owner // starts children and signals them; nil: any thread does
}

// child is a process that a reaper started.
type child struct {
	pid     int
	stopped chan struct{}      // gets an element when it was stopped, as by Ctrl-Z
	exited  chan struct{}      // closed when it is gone
	status  syscall.WaitStatus // valid then
}

func newReaper() *reaper {
	r := &reaper{children: make(map[int]*child), sigchld: make(chan os.Signal, 1)}
	signal.Notify(r.sigchld, unix.SIGCHLD)
	return r
}

// run reaps until ctx ends.
func (r *reaper) run(ctx context.Context) {
	defer signal.Stop(r.sigchld)
	for {
		r.collect()
		select {
		case <-r.sigchld:
		case <-ctx.Done():
			return
		}
	}
}

// start runs a program. The lock is held so that a child that dies at once is
// known before it is reaped.
func (r *reaper) start(path string, argv []string, attr *os.ProcAttr) (*child, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var p *os.Process
	err := r.owner.do(func() (err error) {
		p, err = os.StartProcess(path, argv, attr)
		return err
	})
	if err != nil {
		return nil, err
	}
	c := &child{pid: p.Pid, stopped: make(chan struct{}, 1), exited: make(chan struct{})}
	r.children[c.pid] = c
	_ = p.Release()
	return c, nil
}

func (r *reaper) collect() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG|syscall.WUNTRACED, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		c := r.children[pid]
		switch {
		case c == nil: // an orphan
		case status.Stopped():
			select {
			case c.stopped <- struct{}{}:
			default: // it is known already
			}
		default:
			delete(r.children, pid)
			c.status = status
			close(c.exited)
		}
	}
}

// signal sends sig to a child that is not yet reaped; its pid can't be another's.
func (r *reaper) signal(c *child, sig syscall.Signal) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.children[c.pid] != c {
		return nil
	}
	return r.owner.do(func() error { return syscall.Kill(c.pid, sig) })
}

// exitCode is what a shell would say of a status: 128+n for signal n.
func exitCode(status syscall.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}
