package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

type versionCmd struct{}

func (cmd *versionCmd) Run(c *cli) error {
	build := struct {
		Version  string `json:"version"`
		Go       string `json:"go"`
		Platform string `json:"platform"`
	}{version(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
	return c.emit(build, func() error {
		_, err := fmt.Fprintf(c.stdout, "sallyport %s (%s, %s)\n", build.Version, build.Go, build.Platform)
		return err
	})
}

// version is what the Go toolchain stamped the build with.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
