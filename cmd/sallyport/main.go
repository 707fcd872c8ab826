// Command sallyport is the control plane's command line, for the people who
// keep teams, vaults, credentials and agents, and for the authors of agents:
// "sallyport run --agent A -- CMD…" runs a program in a sealed sandbox.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], os.Getenv, os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}
