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
	if err := api.EndOverlap(ctx, team, cmd.Vault, cmd.Name); err != nil {
		return err
	}
	return c.say(removed{cmd.Name}, "credential %s: the version before the current one is not used any more", cmd.Name)
}

func shownOverlap(o *control.Overlap) string {
	if o == nil {
		return ""
	}
	return fmt.Sprintf("version %d, until %s", o.Version, stamp(o.Until))
}
