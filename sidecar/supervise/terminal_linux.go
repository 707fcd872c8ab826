package supervise

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// Forwarded lists the signals that init passes on to the agent.
func Forwarded() []os.Signal {
	return []os.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH}
}

// hasForeground reports whether standard input is this process' terminal and
// this process' group is in its foreground.
//
// Such an agent keeps the session, so that a shell in it has job control, and
// gets a process group of its own in the foreground: Ctrl-C reaches it once and
// nobody else. Any other agent is put in a new session. Either way its kill(0)
// ends at its own group.
func hasForeground() bool {
	group, err := unix.IoctlGetInt(0, unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// setForeground gives the terminal to a process group.
func setForeground(group int) {
	signal.Ignore(unix.SIGTTOU) // or asking from the background would stop us
	defer signal.Reset(unix.SIGTTOU)
	_ = unix.IoctlSetPointerInt(0, unix.TIOCSPGRP, group)
}
