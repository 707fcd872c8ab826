package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// relayed gives the signals that are the command's, not this program's.
func relayed() chan os.Signal {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2)
	return signals
}

// supervise runs the sidecar to its end, hands on the signals that come in, and
// gives its status. It does not stop when the program is interrupted: the
// sidecar does, and it is waited for.
func supervise(child *exec.Cmd, signals <-chan os.Signal) error {
	// The kernel sends Pdeathsig when the starting thread ends, not the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// A killed CLI takes its agent along, rather than leave it with nobody to stop it.
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}

	if err := child.Start(); err != nil {
		return fmt.Errorf("start %s: %w", child.Path, err)
	}
	ended := make(chan struct{})
	forwarded := make(chan struct{})
	go func() {
		defer close(forwarded)
		forward(child.Process, signals, ended)
	}()
	err := child.Wait()
	close(ended)
	<-forwarded
	return statusOf(err)
}

func forward(to *os.Process, signals <-chan os.Signal, ended <-chan struct{}) {
	for {
		select {
		case s := <-signals:
			if !fromTerminal(s) {
				// It may have ended just now, which Wait will tell.
				_ = to.Signal(s)
			}
		case <-ended:
			return
		}
	}
}

// fromTerminal reports whether the terminal has given the child the signal too:
// it signals every process of the foreground group, and two interrupts would
// make many programs give up their cleaning up.
func fromTerminal(s os.Signal) bool {
	if s != unix.SIGINT && s != unix.SIGQUIT {
		return false
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// statusOf makes the end of a process the status of this one: 128 and the
// signal's number when a signal ended it, as shells do.
func statusOf(err error) error {
	if err == nil {
		return nil
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return fmt.Errorf("wait for the sidecar: %w", err)
	}
	if wait, ok := exit.Sys().(syscall.WaitStatus); ok && wait.Signaled() {
		return exitStatus(128 + int(wait.Signal()))
	}
	return exitStatus(exit.ExitCode())
}
