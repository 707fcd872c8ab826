package supervise

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Config says what to supervise.
type Config struct {
	Netns       *os.File     // the sealed network namespace
	PutBack     bool         // the caller will undo the seal after Run, so this process must stay able to
	Nameservers []netip.Addr // for the sandbox's resolv.conf

	WorkerArgs []string   // argv of this program as the worker
	Files      []*os.File // given to the worker in this order, again to each that follows
	Settings   any        // given to the worker as JSON
	Memory     int        // bytes that each worker finds as the one before left them; this process never reads them
	Record     *os.File   // a regular file that each worker may write, sync and cut; nil for none
	RecordDir  string     // its directory, where this process may remove it at the end
	TokenFile  string     // the join token for the first worker, see ReadToken; empty for none

	StageArgs []string // argv of this program as the sandbox's PID 1
	Command   []string // the agent's argv; none: serve until a signal
	Environ   []string // the agent's, before it is cleaned and trust is added
	Dir       string   // the agent's, if it can enter it
	User      uint32   // the agent's uid and gid inside its user namespace
	Hide      []string // files and directories that the agent must not see
	Share     []string // absolute paths in /tmp, /var/tmp and /run, which are the sandbox's own, that the agent may see

	Signals <-chan os.Signal      // what arrived for init, of Forwarded
	Ready   func(ca []byte) error // called when the worker serves, before the agent starts; may be nil

	StartTimeout time.Duration // until the worker must serve; a minute if 0
	DrainTimeout time.Duration // for the worker's end; 10 s if 0
	Log          *slog.Logger
}

const (
	firstBackoff = 20 * time.Millisecond
	lastBackoff  = 5 * time.Second
	killTimeout  = 10 * time.Second // between SIGTERM and SIGKILL of an agent that has to end
	settleTime   = 2 * time.Second  // until a process that now only waits gives back what starting took
)

// Run starts the worker, then the agent, and returns the agent's exit status
// once both are gone. A worker that dies is started again, with the same
// listeners and state. Nothing that Run started survives it, nor this process.
//
// Who starts this process may ask for SIGTERM as Pdeathsig: with a parent that
// is gone, SIGTERM is not only handed on, the agent has to end.
//
// Run waits for every child of the process, so nothing else may run programs meanwhile.
func Run(ctx context.Context, c Config) (int, error) {
	// The kernel ends the children when the thread that started them ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	surviveBrokenPipes()

	s, err := newSupervisor(c)
	if err != nil {
		return ExitFailure, err
	}
	defer s.close()
	defer s.running.Wait()
	reaping, stopReaping := context.WithCancel(context.WithoutCancel(ctx))
	defer stopReaping()
	s.running.Go(func() { s.reaper.run(reaping) })

	status, err := s.run(ctx)
	s.drain()
	s.awaitRelay()
	return status, err
}

func (s *supervisor) close() {
	s.state.Close()
	if s.memory != nil {
		s.memory.Close()
	}
	if s.claim != nil {
		s.claim.Close()
	}
}

type supervisor struct {
	Config
	reaper  *reaper
	state   *os.File
	memory  *os.File // of Config.Memory; nil for none
	ids     ids
	claim   *os.File // keeps ids from other sandboxes; nil where that can't be
	worker  *worker
	running sync.WaitGroup
	relayed chan struct{} // closed when all that the agent wrote was handed on
	parent  int           // process id of who started us
}

func newSupervisor(c Config) (*supervisor, error) {
	c.StartTimeout = cmp.Or(c.StartTimeout, time.Minute)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, 10*time.Second)
	if err := closeOnExec(); err != nil {
		return nil, err
	}
	if len(c.Command) > 0 {
		if err := checkStandard(); err != nil {
			return nil, err
		}
	}
	if err := keepPrivate(); err != nil {
		return nil, err
	}
	n, claim, err := claimIDs(claimsDir)
	if err != nil {
		return nil, err
	}
	ids, err := chooseIDs(n)
	if err != nil {
		return nil, err
	}
	state, err := newStateFile()
	if err != nil {
		return nil, err
	}
	s := &supervisor{Config: c, reaper: newReaper(), state: state, ids: ids, claim: claim, parent: os.Getppid()}
	if c.Memory > 0 {
		if s.memory, err = newMemory("sallyport-worker", c.Memory); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *supervisor) run(ctx context.Context) (int, error) {
	ca, err := s.firstWorker(ctx)
	if err != nil {
		return ExitFailure, err
	}
	if s.Ready != nil {
		if err := s.Ready(ca); err != nil {
			return ExitFailure, err
		}
	}
	var agent *child
	if len(s.Command) > 0 {
		if agent, err = s.startAgent(ca); err != nil {
			return ExitFailure, err
		}
	}
	err = s.confineInit()
	if err == nil {
		err = s.serve(ctx, ca, agent)
	}
	if agent == nil {
		return 0, err
	}
	if err != nil {
		_ = s.reaper.signal(agent, unix.SIGKILL)
		<-agent.exited
		return ExitFailure, err
	}
	return exitCode(agent.status), nil
}

// firstWorker starts the worker and waits until it serves. What goes wrong here
// is for the user to mend, so it is not tried again.
func (s *supervisor) firstWorker(ctx context.Context) ([]byte, error) {
	var token Token
	if s.TokenFile != "" {
		var err error
		if token, err = ReadToken(s.TokenFile); err != nil {
			return nil, err
		}
		defer token.Wipe()
	}
	w, err := s.startWorker(token)
	if err != nil {
		return nil, err
	}
	s.worker = w
	timeout := time.After(s.StartTimeout)
	for {
		select {
		case ca, ok := <-w.ready:
			if !ok {
				w.ready = nil // it is about to exit
				break
			}
			return ca, checkCA(ca)
		case <-w.exited:
			return nil, fmt.Errorf("the worker ended before it served (%s); its last message says why", describe(w.status))
		case <-timeout:
			return nil, fmt.Errorf("the worker did not serve within %v: is the control plane reachable?", s.StartTimeout)
		case sig := <-s.Signals:
			if ends(sig) {
				return nil, fmt.Errorf("ended by %v before the agent started", sig)
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// ends reports whether a signal means the end to who has nobody to pass it to.
func ends(sig os.Signal) bool {
	return sig == unix.SIGTERM || sig == unix.SIGINT || sig == unix.SIGQUIT || sig == unix.SIGHUP
}

// serve keeps a worker running until the agent is gone or, without one, a
// signal or ctx says to end.
func (s *supervisor) serve(ctx context.Context, ca []byte, agent *child) error {
	var gone <-chan struct{}
	if agent != nil {
		gone = agent.exited
	}
	backoff := firstBackoff
	var restart, orphaned, kill <-chan time.Time
	done, settled := ctx.Done(), time.After(settleTime)
	exited, ready := s.worker.exited, (<-chan []byte)(nil)
	for {
		select {
		case <-settled:
			debug.FreeOSMemory()
		case <-gone:
			return nil
		case sig := <-s.Signals:
			if agent != nil {
				_ = s.reaper.signal(agent, sig.(syscall.Signal))
				if sig == unix.SIGTERM {
					orphaned = time.After(killTimeout)
				}
			} else if ends(sig) {
				return nil
			}
		case <-done:
			if agent == nil {
				return nil
			}
			_ = s.reaper.signal(agent, unix.SIGTERM)
			done, kill = nil, time.After(killTimeout)
		case <-orphaned:
			if os.Getppid() != s.parent {
				_ = s.reaper.signal(agent, unix.SIGKILL)
			}
		case <-kill:
			_ = s.reaper.signal(agent, unix.SIGKILL)
		case <-exited:
			s.Log.Error("the worker died and is started again", "pid", s.worker.pid, "status", describe(s.worker.status), "after", backoff)
			s.worker.forget()
			exited, ready, restart = nil, nil, time.After(backoff)
			backoff = min(2*backoff, lastBackoff)
		case <-restart:
			w, err := s.startWorker(nil)
			if err != nil {
				s.Log.Error("the worker can't be started", "error", err, "after", backoff)
				restart, backoff = time.After(backoff), min(2*backoff, lastBackoff)
				break
			}
			s.worker, exited, ready, restart = w, w.exited, w.ready, nil
		case again, ok := <-ready:
			ready = nil
			if !ok {
				break // it died; exited says so
			}
			if string(again) != string(ca) {
				return errors.New("the new worker has another CA than the sandbox trusts")
			}
			s.Log.Info("the worker serves again", "pid", s.worker.pid)
			backoff = firstBackoff
		}
	}
}

// drain ends the worker: first it may finish what is under way.
func (s *supervisor) drain() {
	if s.worker == nil {
		return
	}
	s.worker.forget()
	select {
	case <-s.worker.exited:
		return
	case <-time.After(s.DrainTimeout):
		s.Log.Error("the worker did not end in time and is killed", "pid", s.worker.pid, "timeout", s.DrainTimeout)
	}
	if err := s.reaper.signal(s.worker.child, unix.SIGKILL); err != nil {
		s.Log.Error("the worker can't be killed (is CAP_KILL missing?)", "error", err)
		return
	}
	<-s.worker.exited
}

// describe tells how a process ended.
func describe(status syscall.WaitStatus) string {
	if status.Signaled() {
		return "killed by " + unix.SignalName(status.Signal())
	}
	return fmt.Sprintf("exit status %d", status.ExitStatus())
}
