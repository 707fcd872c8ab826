//go:build race || !linux

package main

import "os"

// quietCrashes changes nothing, since the race detector reports to standard error too.
func quietCrashes(func(string) string) (*os.File, error) { return os.Stderr, nil }
