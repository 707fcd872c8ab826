package supervise

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// self is this program, even when the file it was started from is replaced.
const self = "/proc/self/exe"

// maxCA bounds what a worker hands over as its CA, in bytes.
const maxCA = 64 << 10

// sandboxNamespaces are those that a sandbox starts with. The network is sealed
// before, the user namespace is the agent's and made last.
const sandboxNamespaces = unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP

// ids are the users of the worker and the agent.
type ids struct {
	worker               int64 // uid and gid; 0: the same as init
	agentUIDs, agentGIDs idRange
}

// chooseIDs gives the ids of the n-th sandbox.
func chooseIDs(n int64) (ids, error) {
	uids, err := readIDMap("/proc/self/uid_map")
	if err != nil {
		return ids{}, err
	}
	gids, err := readIDMap("/proc/self/gid_map")
	if err != nil {
		return ids{}, err
	}
	chosen := ids{agentUIDs: agentRange(uids, n), agentGIDs: agentRange(gids, n)}
	if hasID(uids, workerID) && hasID(gids, workerID) {
		chosen.worker = workerID
	}
	return chosen, nil
}

// worker is a running worker process.
type worker struct {
	*child
	ready     chan []byte // gets the CA in PEM when it serves; closed when it can't come any more
	readyPipe *os.File
	life      *os.File // the worker drains when this is closed, if only because init died
}

// forget ends the wait for readiness of a worker that is gone.
func (w *worker) forget() {
	w.readyPipe.Close()
	w.life.Close()
}

// startWorker starts a worker, which reads the token, if any, from a pipe.
func (s *supervisor) startWorker(token Token) (*worker, error) {
	settings, err := hand(workerSettings{Files: len(s.Files), Memory: s.Config.Memory, Record: s.Record != nil, Settings: s.Settings})
	if err != nil {
		return nil, err
	}
	defer settings.Close()
	tokenPipe, err := filledPipe(token)
	if err != nil {
		return nil, err
	}
	defer tokenPipe.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, fmt.Errorf("start the worker: %w", err)
	}
	defer null.Close()
	readyPipe, readyEnd, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start the worker: %w", err)
	}
	defer readyEnd.Close()
	lifeEnd, life, err := os.Pipe()
	if err != nil {
		readyPipe.Close()
		return nil, fmt.Errorf("start the worker: %w", err)
	}
	defer lifeEnd.Close()

	sys := &syscall.SysProcAttr{Setsid: true, Pdeathsig: unix.SIGKILL}
	if s.ids.worker != 0 {
		id := uint32(s.ids.worker)
		sys.Credential = &syscall.Credential{Uid: id, Gid: id}
		// It needs the first to give up all the rest, and the other, where we have
		// it, to raise its limit of descriptors before.
		sys.AmbientCaps = []uintptr{uintptr(cap.SETPCAP)}
		if ok, err := cap.GetProc().GetFlag(cap.Permitted, cap.SYS_RESOURCE); err == nil && ok {
			sys.AmbientCaps = append(sys.AmbientCaps, uintptr(cap.SYS_RESOURCE))
		}
	}
	child, err := s.reaper.start(self, s.WorkerArgs, &os.ProcAttr{
		// Without this net/http refuses to carry WebSockets over HTTP/2 (RFC 8441).
		Env:   append(workerEnviron(os.Environ()), "GODEBUG=http2xconnect=1"),
		Dir:   "/",
		Files: append([]*os.File{null, os.Stderr, os.Stderr, settings, tokenPipe, s.state, readyEnd, lifeEnd, s.memory, s.Record}, s.Files...),
		Sys:   sys,
	})
	w := &worker{child: child, ready: make(chan []byte, 1), readyPipe: readyPipe, life: life}
	if err != nil {
		w.forget()
		return nil, errors.Join(fmt.Errorf("start the worker: %w", err), s.ids.denied("/"))
	}
	s.running.Go(w.awaitReady)
	return w, nil
}

// denied says whether the worker's user may not enter a directory that it must.
func (i ids) denied(dir string) error {
	info, err := os.Stat(dir)
	if i.worker == 0 || err != nil || info.Mode().Perm()&0o001 != 0 {
		return err
	}
	return fmt.Errorf("the worker's user, uid %d, may not enter %s, whose mode is %#o: chmod o+x it", i.worker, dir, info.Mode().Perm())
}

// awaitReady ends when the worker closes its end or forget is called.
func (w *worker) awaitReady() {
	defer close(w.ready)
	ca, err := io.ReadAll(io.LimitReader(w.readyPipe, maxCA+1))
	if err == nil && len(ca) > 0 && len(ca) <= maxCA {
		w.ready <- ca
	}
}

// workerEnviron is all that a worker inherits: where the operator keeps the roots, and
// the options of the race detector, which only a test's build has.
func workerEnviron(environ []string) []string {
	var out []string
	for _, name := range []string{"SSL_CERT_FILE", "SSL_CERT_DIR", "GORACE"} {
		if value := lookup(environ, name); value != "" {
			out = append(out, name+"="+value)
		}
	}
	return out
}

// filledPipe gives the reading end of a pipe that holds b and nothing after.
func filledPipe(b []byte) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("hand over the join token: %w", err)
	}
	defer w.Close()
	if _, err := w.Write(b); err != nil {
		r.Close()
		return nil, fmt.Errorf("hand over the join token: %w", err)
	}
	return r, nil
}

// startAgent starts the sandbox's PID 1 inside the sealed network namespace.
func (s *supervisor) startAgent(ca []byte) (*child, error) {
	standard, err := newStandard()
	if err != nil {
		return nil, err
	}
	defer standard.started()
	sockets, err := boundSockets()
	if err != nil {
		return nil, err
	}
	settings, err := hand(stageSettings{
		Command: s.Command, Env: agentEnviron(s.Environ), Dir: s.Dir, User: s.User,
		UIDs: s.ids.agentUIDs, GIDs: s.ids.agentGIDs,
		CA: ca, Nameservers: s.Nameservers, Sockets: sockets, Hide: s.Hide, Share: s.Share,
		Processes: processBound(),
		Terminal:  standard.terminal(),
	})
	if err != nil {
		return nil, err
	}
	defer settings.Close()
	attr := &os.ProcAttr{
		Env:   []string{},
		Files: standard.inherited(settings),
		Sys: &syscall.SysProcAttr{
			Cloneflags: sandboxNamespaces,
			Setsid:     true,
			Pdeathsig:  unix.SIGKILL,
		},
	}
	type started struct {
		agent *child
		err   error
	}
	result := make(chan started)
	s.running.Go(func() {
		// This thread enters the sandbox's network, so no other goroutine may
		// have it again; and it stays, as the child dies with its thread.
		runtime.LockOSThread()
		if err := unix.Setns(int(s.Netns.Fd()), unix.CLONE_NEWNET); err != nil {
			result <- started{nil, fmt.Errorf("enter the sealed network namespace: %w", err)}
			return
		}
		agent, err := s.reaper.start(self, s.StageArgs, attr)
		if err != nil {
			result <- started{nil, fmt.Errorf("start the sandbox in new pid, mount, ipc, uts and cgroup namespaces: %w", err)}
			return
		}
		result <- started{agent, nil}
		<-agent.exited
	})
	r := <-result
	if r.err == nil {
		s.relayed = make(chan struct{})
		go func() {
			defer close(s.relayed)
			standard.copy(func() { _ = s.reaper.signal(r.agent, unix.SIGCONT) })
		}()
	}
	return r.agent, r.err
}
