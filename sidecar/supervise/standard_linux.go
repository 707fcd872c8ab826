package supervise

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// relayTimeout bounds the wait for the reader of standard error when everybody
// who wrote to it is gone.
const relayTimeout = 5 * time.Second

// surviveBrokenPipes lets a write to a pipe that nobody reads fail, instead of
// ending the process. Programs that are started later are not affected.
func surviveBrokenPipes() { signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE) }

// checkStandard refuses standard descriptors that would lead an agent out: a
// socket can be connected anew, and the paths below a directory are those outside.
func checkStandard() error {
	for fd, name := range []string{"input", "output", "error"} {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return fmt.Errorf("look at standard %s: %w", name, err)
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			return fmt.Errorf("standard %s is a directory, by which the agent could leave the sandbox's file system; use /dev/null", name)
		case unix.S_IFSOCK:
			if !connectedStream(fd) {
				return fmt.Errorf("standard %s is a network or datagram socket, by which the agent could reach others; put a pipe in between, such as '… | cat'", name)
			}
		}
	}
	return nil
}

// connectedStream reports whether fd is a socket that stays connected to what it
// is connected to now: only a Unix stream can't be turned elsewhere.
func connectedStream(fd int) bool {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil || domain != unix.AF_UNIX {
		return false
	}
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || kind != unix.SOCK_STREAM {
		return false
	}
	_, err = unix.Getpeername(fd)
	return err == nil
}

// standard are the descriptors 0 to 2 of a sandbox.
type standard struct {
	files   [3]*os.File
	ours    []*os.File // to be closed once the sandbox has them
	relay   *os.File   // what the agent writes to standard error; nil if it has ours
	console *console   // nil without a terminal
}

// newStandard keeps from the agent what the log is written to: whoever has it
// can read what waits in it, shut it down or make others' writes to it fail. The
// agent writes to a pipe instead, or to a terminal of the sandbox's own. Other
// devices stay as they are.
func newStandard() (*standard, error) {
	s := &standard{files: [3]*os.File{os.Stdin, os.Stdout, os.Stderr}}
	log, err := os.Stderr.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at standard error: %w", err)
	}
	if s.console, err = newConsole(); err != nil {
		return nil, err
	}
	if s.console != nil {
		null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		if err != nil {
			return nil, fmt.Errorf("start the sandbox: %w", err)
		}
		s.ours = append(s.ours, s.console.peer, null)
		for fd, instead := range s.console.settings.Instead {
			if instead {
				s.files[fd] = null
			}
		}
	}
	if log.Mode()&os.ModeCharDevice != 0 && s.files[2] == os.Stderr {
		return s, nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe for standard error: %w", err)
	}
	// With a terminal there, this is what the stage itself complains to.
	s.relay, s.ours, s.files[2] = r, append(s.ours, w), w
	if out, err := os.Stdout.Stat(); err == nil && log.Mode()&os.ModeCharDevice == 0 && os.SameFile(out, log) {
		s.files[1] = w
	}
	return s, nil
}

// terminal is what the stage is to know of it.
func (s *standard) terminal() *terminalSettings {
	if s.console == nil {
		return nil
	}
	return &s.console.settings
}

// inherited are the stage's descriptors, the settings among them.
func (s *standard) inherited(settings *os.File) []*os.File {
	files := append(s.files[:], settings)
	if s.console != nil {
		files = append(files, s.console.peer)
	}
	return files
}

// started lets go of what the sandbox has now.
func (s *standard) started() {
	for _, f := range s.ours {
		f.Close()
	}
}

// copy hands on what the agent writes, and what is typed to it, until nobody is
// left in the sandbox. proceed continues an agent that was stopped.
func (s *standard) copy(proceed func()) {
	var copying sync.WaitGroup
	if s.console != nil {
		s.console.proceed = proceed
		copying.Go(s.console.run)
	}
	if s.relay != nil {
		_, _ = io.Copy(os.Stderr, s.relay)
		s.relay.Close() // a reader that went away is the agent's to know
	}
	copying.Wait()
}

// awaitRelay waits until all that the agent wrote was handed on, but not for
// ever: a reader that has stopped reading keeps nobody.
func (s *supervisor) awaitRelay() {
	if s.relayed == nil {
		return
	}
	select {
	case <-s.relayed:
	case <-time.After(relayTimeout):
	}
}

// openPipes lets the agent, whose uid is another than that of whoever made
// them, open the standard descriptors that are pipes as /dev/stdout and so on.
func openPipes() {
	const pipefs = 0x50495045 // PIPEFS_MAGIC
	for fd, mode := range []uint32{0o444, 0o222, 0o222} {
		var fs unix.Statfs_t
		var st unix.Stat_t
		if unix.Fstatfs(fd, &fs) == nil && fs.Type == pipefs && unix.Fstat(fd, &st) == nil {
			_ = unix.Fchmod(fd, st.Mode&0o777|mode)
		}
	}
}
