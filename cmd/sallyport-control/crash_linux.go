//go:build !race

package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// quietCrashes gives standard error by another descriptor, and leads the usual one
// nowhere, unless whoever set GOTRACEBACK asks for traces. There the Go runtime tells of
// a crash: a panic's text, registers and arguments, which are memory, and keys are in it.
func quietCrashes(getenv func(string) string) (*os.File, error) {
	if getenv("GOTRACEBACK") != "" {
		return os.Stderr, nil
	}
	fd, err := unix.FcntlInt(uintptr(unix.Stderr), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("keep standard error: %w", err)
	}
	nowhere, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("keep crashes quiet: %w", err)
	}
	defer nowhere.Close()
	if err := unix.Dup3(int(nowhere.Fd()), unix.Stderr, 0); err != nil {
		return nil, fmt.Errorf("keep crashes quiet: %w", err)
	}
	return os.NewFile(uintptr(fd), "standard error"), nil
}
