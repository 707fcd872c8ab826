//go:build !profile

package main

// profile does nothing but in builds for scripts/profile.
func profile() (stop func(), err error) { return func() {}, nil }
