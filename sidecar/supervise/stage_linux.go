package supervise

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// Exit statuses of a sandbox whose command did not run, as shells have them.
const (
	ExitFailure       = 125 // the sandbox itself failed
	ExitNotExecutable = 126
	ExitNotFound      = 127
)

// oomScore makes the kernel's choice of what to kill. Without CAP_SYS_RESOURCE
// outside, which the agent never has, it can be raised but not lowered, if it was
// set with that capability.
const oomScore = "500"

// stageSettings is what init tells the sandbox's PID 1.
type stageSettings struct {
	Command     []string
	Env         []string
	Dir         string
	User        uint32 // inside
	UIDs, GIDs  idRange
	CA          []byte
	Nameservers []netip.Addr
	Sockets     []string          // of the machine, to be covered
	Hide        []string          // files and directories, to be covered
	Share       []string          // files and directories, to be kept in sight
	Processes   uint64            // that the agent may have, with threads; 0: any number
	Terminal    *terminalSettings // nil: none
}

// Stage is PID 1 of a sandbox: it mounts what the agent may see, starts the
// agent in a user namespace of its own, lets go of every capability, reaps
// orphans, forwards signals and returns the agent's exit status. When it ends,
// the kernel ends everything else in the sandbox.
func Stage(ctx context.Context) (int, error) {
	surviveBrokenPipes()
	if err := closeOnExec(); err != nil {
		return ExitFailure, err
	}
	var s stageSettings
	if err := receive(&s); err != nil {
		return ExitFailure, err
	}
	// When memory runs out, what runs in here goes before the sidecar. Whoever may
	// not write this still has a sandbox.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte(oomScore), 0)
	if err := keepPrivate(); err != nil {
		return ExitFailure, err
	}
	if err := mountSandbox(&s); err != nil {
		return ExitFailure, err
	}
	s.chdir()
	if s.UIDs.Count > 1 {
		openPipes()
	}
	var terminal *agentTerminal
	if s.Terminal != nil {
		var err error
		if terminal, err = openTerminal(s.Terminal); err != nil {
			return ExitFailure, err
		}
	}
	if err := loadFilter(agentPolicy()); err != nil {
		return ExitFailure, err
	}
	// Still needed: to map the agent's ids (SETFCAP where that is our own root),
	// to see its /proc entry for that in spite of hidepid, and to drop these too.
	if err := keepCapabilities(cap.SETUID, cap.SETGID, cap.SETFCAP, cap.SYS_PTRACE, cap.SETPCAP); err != nil {
		return ExitFailure, err
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, append(Forwarded(), unix.SIGCONT)...)
	r := newReaper()
	if s.UIDs.Count > 1 {
		var err error
		if r.owner, err = newOwner(s.UIDs.First); err != nil {
			return ExitFailure, err
		}
	}
	agent, status, err := startBounded(s.Processes, func() (*child, int, error) { return s.start(r, terminal) })
	if err != nil {
		return status, err
	}
	if err := dropPrivileges(); err != nil {
		return ExitFailure, err
	}
	return attend(ctx, r, agent, terminal, signals), nil
}

// attend stays until the agent is gone.
func attend(ctx context.Context, r *reaper, agent *child, terminal *agentTerminal, signals <-chan os.Signal) int {
	ctx, cancel := context.WithCancel(ctx)
	reaped := make(chan struct{})
	go func() {
		defer close(reaped)
		r.run(ctx)
	}()
	defer func() {
		cancel()
		<-reaped
	}()
	settled := time.After(settleTime)
	for {
		select {
		case <-settled:
			debug.FreeOSMemory()
		case <-agent.exited:
			if terminal != nil {
				terminal.drain()
			}
			return exitCode(agent.status)
		case sig := <-signals:
			if sig != unix.SIGCONT {
				_ = r.signal(agent, sig.(syscall.Signal))
			} else if terminal != nil {
				terminal.resume(agent)
			}
		case <-agent.stopped:
			if terminal != nil {
				terminal.stopped(agent)
			}
		}
	}
}

// start runs the command as execvp(3) would, with the agent's rights: what the
// agent may not execute is passed over.
func (s *stageSettings) start(r *reaper, terminal *agentTerminal) (*child, int, error) {
	name := s.Command[0]
	attr := &os.ProcAttr{
		Env:   s.Env,
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Sys: &syscall.SysProcAttr{
			Cloneflags:                 unix.CLONE_NEWUSER,
			UidMappings:                s.UIDs.mapping(s.User),
			GidMappings:                s.GIDs.mapping(s.User),
			GidMappingsEnableSetgroups: s.GIDs.Count > 1,
			Credential:                 &syscall.Credential{Uid: s.User, Gid: s.User, NoSetGroups: s.GIDs.Count == 1},
		},
	}
	if terminal != nil {
		attr.Sys.Setpgid, attr.Sys.Foreground, attr.Sys.Ctty = true, true, int(terminal.slave.Fd())
		for fd, instead := range s.Terminal.Instead {
			if instead {
				attr.Files[fd] = terminal.slave
			}
		}
	}
	denied := false
	for _, path := range s.candidates() {
		agent, err := r.start(path, s.Command, attr)
		switch {
		case err == nil:
			return agent, 0, nil
		case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR):
			if _, err := os.Stat(path); err == nil {
				return nil, ExitNotFound, fmt.Errorf("%s: its interpreter (#! line or dynamic loader) is not in the sandbox", path)
			}
		case errors.Is(err, unix.EACCES):
			_, err := os.Stat(path)
			denied = denied || err == nil // else only its directory is out of the agent's reach
		case errors.Is(err, unix.ENOEXEC):
			return nil, ExitNotExecutable, fmt.Errorf("%s: not a program of this machine, nor a script with a #! line", path)
		default:
			return nil, ExitNotExecutable, fmt.Errorf("start %s in a user namespace of its own: %w", path, errors.Unwrap(err))
		}
	}
	if denied {
		return nil, ExitNotExecutable, fmt.Errorf("%s: permission denied for the agent, which is uid %d on this machine", name, s.outsideID(s.UIDs))
	}
	if underAny(name, temporary()) {
		return nil, ExitNotFound, fmt.Errorf("%s: command not found; the sandbox has its own /tmp and /var/tmp and sees of the machine's only the working directory, and what --share names", name)
	}
	return nil, ExitNotFound, fmt.Errorf("%s: command not found", name)
}

// candidates are the paths where the command may be.
func (s *stageSettings) candidates() []string {
	name := s.Command[0]
	if strings.Contains(name, "/") {
		return []string{name}
	}
	search := lookup(s.Env, "PATH")
	if search == "" {
		search = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	}
	var paths []string
	for _, dir := range filepath.SplitList(search) {
		if filepath.IsAbs(dir) {
			paths = append(paths, filepath.Join(dir, name))
		}
	}
	return paths
}

// chdir goes to the agent's directory by its name: what was mounted since may
// have changed what the name stands for.
func (s *stageSettings) chdir() {
	for _, dir := range []string{s.Dir, lookup(s.Env, "HOME"), "/"} {
		if dir != "" && os.Chdir(dir) == nil {
			return
		}
	}
}

// outsideID is the agent's user or group as this process sees it.
func (s *stageSettings) outsideID(r idRange) int {
	if r.Count == 1 {
		return int(r.First)
	}
	return int(r.First) + int(s.User)
}

// owner is the mount option that gives a tmpfs to the agent.
func (s *stageSettings) owner() string {
	return fmt.Sprintf("uid=%d,gid=%d", s.outsideID(s.UIDs), s.outsideID(s.GIDs))
}

// owns reports whether a file is the agent's.
func (s *stageSettings) owns(info os.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == s.outsideID(s.UIDs)
}
