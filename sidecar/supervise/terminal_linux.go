package supervise

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// Forwarded lists the signals that init passes on to the agent.
func Forwarded() []os.Signal {
	return []os.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH}
}

// terminalSettings say what the terminal of a sandbox is like at first. An agent
// never has the user's: it would read what the user types to other programs too.
type terminalSettings struct {
	Instead [3]bool // which standard descriptors it takes the place of
	Termios unix.Termios
	Size    unix.Winsize
	Suspend bool // Ctrl-Z stops init too, as somebody is there to continue it
}

// agentTerminal is the terminal of a sandbox, in the stage. Its session is the stage's own,
// in which the agent gets the foreground, so that a shell has job control there.
type agentTerminal struct {
	slave  *os.File
	master int      // which init has too
	init   *os.File // takes a byte when the agent was stopped; nil if init is not to be
}

// openTerminal makes the terminal and gives its other side to init.
func openTerminal(s *terminalSettings) (*agentTerminal, error) {
	master, err := unix.Open("/dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make the sandbox's terminal: %w", err)
	}
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return nil, fmt.Errorf("unlock the sandbox's terminal: %w", err)
	}
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return nil, fmt.Errorf("open the sandbox's terminal: %w", errno)
	}
	t := &agentTerminal{slave: os.NewFile(fd, "terminal"), master: master}
	err = errors.Join(
		unix.IoctlSetTermios(int(fd), unix.TCSETS, &s.Termios),
		unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &s.Size),
		unix.IoctlSetInt(int(fd), unix.TIOCSCTTY, 0),
		unix.Sendmsg(consoleFD, []byte{0}, unix.UnixRights(master), nil, 0),
	)
	if err != nil {
		return nil, fmt.Errorf("set up the sandbox's terminal: %w", err)
	}
	link := os.NewFile(consoleFD, "console")
	_, _ = link.Read(make([]byte, 1)) // init is ready, or gone
	if s.Suspend {
		t.init = link
	} else {
		link.Close()
	}
	return t, nil
}

// drain waits until init has taken what was written. The kernel throws away the
// rest when the leader of the terminal's session, which the stage is, ends.
func (t *agentTerminal) drain() {
	deadline := time.Now().Add(relayTimeout)
	poll := []unix.PollFd{{Fd: int32(t.master), Events: unix.POLLIN}}
	for time.Now().Before(deadline) {
		if n, err := unix.Poll(poll, 0); n == 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// setForeground gives the terminal to a process group.
func (t *agentTerminal) setForeground(group int) {
	signal.Ignore(unix.SIGTTOU) // or asking from the background would stop us
	defer signal.Reset(unix.SIGTTOU)
	_ = unix.IoctlSetPointerInt(int(t.slave.Fd()), unix.TIOCSPGRP, group)
}

// resume continues an agent that was stopped at the terminal.
func (t *agentTerminal) resume(agent *child) {
	t.setForeground(agent.pid)
	_ = unix.Kill(-agent.pid, unix.SIGCONT)
}

// stopped tells init that the agent was stopped, or continues it at once where
// nobody else could.
func (t *agentTerminal) stopped(agent *child) {
	if t.init != nil {
		if _, err := t.init.Write([]byte{0}); err == nil {
			return
		}
	}
	t.resume(agent)
}
