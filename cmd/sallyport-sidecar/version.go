package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

type versionCmd struct{}

func (*versionCmd) Run(env *environment) error {
	_, err := fmt.Fprintf(env.stdout, "%s %s (%s, %s/%s)\n", name, version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

// version is what the Go toolchain stamped the build with.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
