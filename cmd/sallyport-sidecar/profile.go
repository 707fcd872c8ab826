//go:build profile

package main

import (
	"fmt"
	"os"
	"runtime/pprof"
)

// profileFolder is set by the linker; see scripts/profile.
var profileFolder string

// profile records where a worker's time goes, until stop. It must begin before
// the worker may open no file any more.
func profile() (stop func(), err error) {
	f, err := os.CreateTemp(profileFolder, "worker-*.pprof")
	if err != nil {
		return nil, fmt.Errorf("record a profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, fmt.Errorf("record a profile: %w", err)
	}
	return pprof.StopCPUProfile, nil
}
