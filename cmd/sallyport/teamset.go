package main

import (
	"context"
	"fmt"

	"sallyport/control"
)

type teamShowCmd struct{}

func (cmd *teamShowCmd) Run(ctx context.Context, c *cli) error {
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	t, err := api.Team(ctx, team)
	if err != nil {
		return err
	}
	return c.emit(t, func() error {
		_, err := fmt.Fprintf(c.stdout, "name     %s\naudit    %s\ncreated  %s\n", visible(t.Name), visible(string(t.Audit)), stamp(t.CreatedAt))
		return err
	})
}

type teamSetCmd struct {
	Audit control.AuditMode `required:"" enum:"best_effort,durable,strict" placeholder:"MODE" help:"Where the intent to use a credential must be before a request goes out: best_effort (in memory that outlives the worker), durable (on the sidecar's disk) or strict (with the control plane)."`
}

func (cmd *teamSetCmd) Run(ctx context.Context, c *cli) error {
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	t, err := api.SetTeamAudit(ctx, team, cmd.Audit)
	if err != nil {
		return err
	}
	return c.say(t, "team %s: audit is %s, in running sandboxes too", t.Name, t.Audit)
}
