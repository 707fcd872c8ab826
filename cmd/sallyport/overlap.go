package main

import (
	"context"
	"fmt"

	"sallyport/control"
)

type credentialRetireCmd struct {
	Vault string `required:"" placeholder:"VAULT" help:"The credential's vault."`
	Name  string `arg:"" help:"The credential's name."`
}

func (cmd *credentialRetireCmd) Run(ctx context.Context, c *cli) error {
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	retired, err := api.EndOverlap(ctx, team, cmd.Vault, cmd.Name)
	if err != nil {
		return err
	}
	return c.say(retired, "credential %s: version %d is not used any more", cmd.Name, retired.Version)
}

func shownOverlap(o *control.Overlap) string {
	if o == nil {
		return ""
	}
	return fmt.Sprintf("version %d, until %s", o.Version, stamp(o.Until))
}
