package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"sallyport/netsetup"
	"sallyport/sidecar/supervise"
)

type doctorCmd struct {
	Rootless bool `hidden:"" help:"We are root of a user namespace that was made to find out."`
}

func (cmd *doctorCmd) Run(ctx context.Context, env *environment) error {
	if os.Geteuid() != 0 {
		signals, stop := listen()
		defer stop()
		status, err := supervise.Rootless([]string{name, "doctor", "--rootless"}, "", signals)
		if err != nil {
			fmt.Fprintf(env.stdout, "mode: none\n")
		}
		return ended(status, err)
	}
	mode := "root"
	if cmd.Rootless {
		mode = "rootless (in a user namespace of your own)"
	}
	network := netsetup.Detect(ctx)
	sandbox := supervise.Detect(ctx, []string{name, "stage"})
	needed := report{out: env.stdout}
	needed.line("capabilities", sandbox.Privilege)
	needed.line("sealed network", network.Sealable())
	needed.line("sandbox", sandbox.Sandbox)
	rest := report{out: env.stdout}
	for what, err := range network.All() {
		if what == "iptables" && err != nil && network.NFTables == nil {
			fmt.Fprintln(env.stdout, "unused   iptables: not needed, as nf_tables is there")
			continue
		}
		rest.line(what, err)
	}
	rest.line("separate ids", sandbox.OwnIDs)
	rest.line("Landlock", sandbox.Landlock)
	rest.line("secret memory", sandbox.SecretMemory)
	if needed.missing {
		fmt.Fprintln(env.stdout, "mode: none; the first three lines must be ok")
		return exitStatus(1)
	}
	fmt.Fprintln(env.stdout, "mode:", mode)
	return nil
}

// report prints a line for each thing, and remembers whether one is missing.
type report struct {
	out     io.Writer
	missing bool
}

func (r *report) line(what string, err error) {
	if err == nil {
		fmt.Fprintf(r.out, "ok       %s\n", what)
		return
	}
	r.missing = true
	fmt.Fprintf(r.out, "missing  %s: %s\n", what, strings.ReplaceAll(err.Error(), "\n", "; "))
}
