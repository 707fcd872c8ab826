//go:build !linux

package main

import (
	"errors"
	"os"
	"os/exec"
)

func relayed() chan os.Signal { return make(chan os.Signal) }

// supervise has no sealed namespaces to run in but on Linux.
func supervise(*exec.Cmd, <-chan os.Signal) error {
	return errors.New("run needs Linux: its namespaces are what seals a sandbox")
}
