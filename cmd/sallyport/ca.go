package main

import (
	"context"
	"fmt"
	"strings"

	"sallyport/control"
)

type caCmd struct {
	Status caStatusCmd `cmd:"" help:"Say which root certificates the control plane has, and which step comes next."`
	Rotate caRotateCmd `cmd:"" help:"Take the next step from one root to another; no sidecar is cut off."`
}

type caStatusCmd struct{}

func (cmd *caStatusCmd) Run(ctx context.Context, c *cli) error {
	api, err := c.connect()
	if err != nil {
		return err
	}
	status, err := api.CA(ctx)
	if err != nil {
		return err
	}
	return c.emitCA(status)
}

type caRotateCmd struct {
	Step  string `arg:"" enum:"stage,activate,retire" help:"stage: make a new root and hand it out; activate: issue by it; retire: forget the old one."`
	Force bool   `help:"Do not wait for sidecars that need the other root."`
}

func (cmd *caRotateCmd) Run(ctx context.Context, c *cli) error {
	api, err := c.connect()
	if err != nil {
		return err
	}
	status, err := api.RotateCA(ctx, cmd.Step, cmd.Force)
	if err != nil {
		return err
	}
	return c.emitCA(status)
}

func (c *cli) emitCA(status control.CAStatus) error {
	return c.emit(status, func() error {
		var b strings.Builder
		for _, root := range []struct {
			what string
			*control.CARoot
		}{{"issues", &status.Active}, {"staged", status.Next}, {"previous", status.Previous}} {
			if root.CARoot != nil {
				fmt.Fprintf(&b, "%s: %s, until %s\n", root.what, visible(root.Fingerprint), stamp(root.ExpiresAt))
			}
		}
		fmt.Fprintf(&b, "next step: %s", visible(status.Step))
		if status.DueAt != nil {
			fmt.Fprintf(&b, ", from %s", stamp(*status.DueAt))
		}
		_, err := fmt.Fprintln(c.stdout, b.String())
		return err
	})
}
