package main

import (
	"context"
	"fmt"
	"strconv"

	"sallyport/control"
)

type sandboxCmd struct {
	Create sandboxCreateCmd `cmd:"" help:"Make a sandbox and print its join token, alone."`
	List   sandboxListCmd   `cmd:"" help:"List the team's sandboxes."`
	Rm     sandboxRmCmd     `cmd:"" help:"Remove a sandbox; a running one is cut off at once."`
}

type sandboxCreateCmd struct {
	Agent string `required:"" placeholder:"AGENT" help:"The agent it runs."`
}

func (cmd *sandboxCreateCmd) Run(ctx context.Context, c *cli) error {
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	made, err := api.CreateSandbox(ctx, team, cmd.Agent)
	if err != nil {
		return err
	}
	return c.emit(made, func() error {
		_, err := fmt.Fprintln(c.stdout, string(made.JoinToken))
		return err
	})
}

type sandboxListCmd struct{}

func (cmd *sandboxListCmd) Run(ctx context.Context, c *cli) error {
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	sandboxes, err := api.Sandboxes(ctx, team)
	if err != nil {
		return err
	}
	return printList(c, sandboxes, "ID AGENT STATE CONNECTED VERSION CREATED SEEN", func(s control.Sandbox) []string {
		return []string{s.ID, s.Agent, string(s.State), strconv.FormatBool(s.Connected), s.Version, stamp(s.CreatedAt), stampOf(s.LastSeenAt)}
	})
}

type sandboxRmCmd struct {
	ID string `arg:"" name:"id" help:"The sandbox's id, as list shows it."`
}

func (cmd *sandboxRmCmd) Run(ctx context.Context, c *cli) error {
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	if err := api.DeleteSandbox(ctx, team, cmd.ID); err != nil {
		return err
	}
	return c.say(removed{cmd.ID}, "sandbox %s removed", cmd.ID)
}
