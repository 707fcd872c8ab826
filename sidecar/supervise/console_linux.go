package supervise

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

const (
	// lookEvery is how often a console in the background looks whether it is in
	// the foreground again: nothing else tells.
	lookEvery = 200 * time.Millisecond
	// stopTimeout is how long SIGTSTP may take to stop this process. After that
	// it was ignored, as by a shell without job control.
	stopTimeout = 500 * time.Millisecond
)

// console is the user's terminal, as init has it. It hands on what is typed to
// the sandbox's own, as long as this process is in the foreground, and shows what
// is written there.
type console struct {
	settings terminalSettings
	control  int      // the descriptor that is the user's terminal, of 0 to 2
	output   *os.File // it, too
	link     *os.File // brings the other side of the sandbox's terminal, then a byte each time the agent stopped
	peer     *os.File // the stage's end of link
	proceed  func()   // continues the agent

	mu        sync.Mutex
	before    *term.State // of the terminal while it is raw; nil while it isn't
	suspended bool
}

// newConsole gives nil when none of the standard descriptors is a terminal.
func newConsole() (*console, error) {
	c := &console{control: -1}
	for _, f := range []*os.File{os.Stdin, os.Stderr, os.Stdout} {
		if fd := int(f.Fd()); term.IsTerminal(fd) {
			c.settings.Instead[fd] = true
			c.control, c.output = fd, f
		}
	}
	if c.control < 0 {
		return nil, nil
	}
	session, err := unix.Getsid(0)
	if err != nil {
		return nil, fmt.Errorf("look at the session: %w", err)
	}
	c.settings.Suspend = session != os.Getpid()
	termios, err := unix.IoctlGetTermios(c.control, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("look at the terminal: %w", err)
	}
	c.settings.Termios = *termios
	if !c.settings.Instead[0] {
		c.settings.Termios.Oflag &^= unix.OPOST // the user's terminal is not made raw and does it
	}
	if size, err := unix.IoctlGetWinsize(c.control, unix.TIOCGWINSZ); err == nil {
		c.settings.Size = *size
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a way to the sandbox's terminal: %w", err)
	}
	c.link, c.peer = os.NewFile(uintptr(pair[0]), "console"), os.NewFile(uintptr(pair[1]), "console")
	return c, nil
}

// run serves until the sandbox's terminal is closed by everybody in there.
func (c *console) run() {
	defer c.link.Close()
	defer c.restore()
	// From the background, read and write fail rather than stop this process.
	signal.Ignore(unix.SIGTTIN, unix.SIGTTOU)
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGCONT, unix.SIGWINCH)
	defer signal.Stop(signals)
	master, err := c.receive()
	if err != nil {
		return // the stage has failed, and said so
	}
	defer master.Close()
	wakeEnd, wake, err := os.Pipe()
	if err != nil {
		return // closing link lets the stage go on
	}
	defer wakeEnd.Close()
	if c.settings.Instead[0] {
		c.enter() // before the agent is there
	}
	if _, err := c.link.Write([]byte{0}); err != nil {
		return // the stage is gone
	}
	var running sync.WaitGroup
	defer running.Wait()
	if c.settings.Instead[0] {
		running.Go(func() { c.input(master, wakeEnd) })
	}
	stopped := make(chan struct{}, 1)
	go func() { // until the stage is gone, which closes its end
		for b := make([]byte, 1); ; {
			if n, err := c.link.Read(b); n == 0 || err != nil {
				return
			}
			select {
			case stopped <- struct{}{}:
			default: // it is known already
			}
		}
	}()
	closed := make(chan struct{})
	running.Go(func() {
		defer close(closed)
		_, _ = io.Copy(c.output, master)
	})
	defer wake.Close()
	for {
		select {
		case <-stopped:
			c.suspend(signals)
			c.resize(master)
		case sig := <-signals:
			c.resize(master)
			if sig == unix.SIGCONT {
				c.proceed()
			}
		case <-closed:
			return
		}
	}
}

// receive takes the master side of the sandbox's terminal from the stage.
func (c *console) receive() (*os.File, error) {
	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(int(c.link.Fd()), make([]byte, 1), control, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 {
		return nil, errors.Join(errors.New("no terminal came"), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, errors.Join(errors.New("no terminal came"), err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fds[0]), "terminal"), nil
}

// input hands on what is typed until wake is closed at its other end.
func (c *console) input(master, wake *os.File) {
	typed := make([]byte, 4096)
	for {
		poll := []unix.PollFd{{Fd: int32(wake.Fd())}, {Fd: 0, Events: unix.POLLIN}}
		if !c.enter() {
			poll = poll[:1]
		}
		_, err := unix.Poll(poll, int(lookEvery.Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil || poll[0].Revents != 0:
			return
		case len(poll) == 1 || poll[1].Revents == 0 || !c.enter():
			continue
		}
		n, err := unix.Read(0, typed)
		switch {
		case n > 0:
			if _, err := master.Write(typed[:n]); err != nil {
				return
			}
		case err == nil || errors.Is(err, unix.EIO) && c.foreground():
			return // hung up
		}
	}
}

// foreground reports whether what is typed is for this process: the terminal has
// this group in its foreground, or is not the one that controls it.
func (c *console) foreground() bool {
	group, err := unix.IoctlGetInt(c.control, unix.TIOCGPGRP)
	return err != nil || group == unix.Getpgrp()
}

// enter makes the user's terminal raw if it is ours to read, which it reports.
func (c *console) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.suspended || !c.foreground() {
		c.before = nil // who took it has set it as it likes
		return false
	}
	if c.before == nil {
		before, err := term.MakeRaw(0)
		if err != nil {
			return false
		}
		c.before = before
	}
	return true
}

// restore makes the terminal what it was.
func (c *console) restore() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.before != nil && c.foreground() {
		_ = term.Restore(0, c.before)
	}
	c.before = nil
}

// suspend stops this process and whatever else the user's shell counts to this
// job, because the agent was stopped, and continues the agent afterwards.
func (c *console) suspend(signals <-chan os.Signal) {
	c.set(true)
	c.restore()
	_ = unix.Kill(0, unix.SIGTSTP)
	timeout := time.After(stopTimeout)
	for waiting := true; waiting; {
		select {
		case sig := <-signals:
			waiting = sig != unix.SIGCONT
		case <-timeout:
			waiting = false
		}
	}
	c.set(false)
	c.proceed()
}

func (c *console) set(suspended bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.suspended = suspended
}

// resize gives the sandbox's terminal the size of the user's.
func (c *console) resize(master *os.File) {
	size, err := unix.IoctlGetWinsize(c.control, unix.TIOCGWINSZ)
	if err != nil {
		return
	}
	raw, err := master.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { _ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, size) })
}
