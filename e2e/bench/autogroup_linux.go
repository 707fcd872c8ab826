package main

import (
	"errors"
	"fmt"
	"os"
)

// oneGroup has the kernel share cores among processes, not among sessions first
// (autogroups, sched(7)): a sandbox is a session of its own, the other proxies
// share that of the client and the origin. It gives how to undo that.
func oneGroup() (undo func() error, err error) {
	const path = "/proc/sys/kernel/sched_autogroup_enabled"
	before, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return func() error { return nil }, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read whether sessions are scheduled apart: %w", err)
	}
	if err := os.WriteFile(path, []byte("0"), 0); err != nil {
		return nil, fmt.Errorf("have sessions not scheduled apart: %w", err)
	}
	return func() error { return os.WriteFile(path, before, 0) }, nil
}
