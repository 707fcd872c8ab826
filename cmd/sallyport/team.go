package main

import (
	"context"

	"sallyport/control"
)

type teamCmd struct {
	Create teamCreateCmd `cmd:"" help:"Make a team."`
	List   teamListCmd   `cmd:"" help:"List the teams your token may see."`
	Show   teamShowCmd   `cmd:"" help:"Show the team and its settings."`
	Set    teamSetCmd    `cmd:"" help:"Change the team's settings, in running sandboxes too."`
}

type teamCreateCmd struct {
	Name string `arg:"" help:"The team's name."`
}

func (cmd *teamCreateCmd) Run(ctx context.Context, c *cli) error {
	if err := checkName("team", cmd.Name); err != nil {
		return err
	}
	api, err := c.connect()
	if err != nil {
		return err
	}
	team, err := api.CreateTeam(ctx, cmd.Name)
	if err != nil {
		return err
	}
	return c.say(team, "team %s created", team.Name)
}

type teamListCmd struct{}

func (cmd *teamListCmd) Run(ctx context.Context, c *cli) error {
	api, err := c.connect()
	if err != nil {
		return err
	}
	teams, err := api.Teams(ctx)
	if err != nil {
		return err
	}
	return printList(c, teams, "NAME CREATED", func(t control.Team) []string {
		return []string{t.Name, stamp(t.CreatedAt)}
	})
}
