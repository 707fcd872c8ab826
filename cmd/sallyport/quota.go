package main

import (
	"context"
	"strconv"

	"sallyport/control"
)

type quotaCmd struct {
	Show quotaShowCmd `cmd:"" help:"How much the team may have, and has."`
	Set  quotaSetCmd  `cmd:"" help:"Change that, as an owner of every team."`
}

type quotaShowCmd struct{}

func (cmd *quotaShowCmd) Run(ctx context.Context, c *cli) error {
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	q, err := api.Quota(ctx, team)
	if err != nil {
		return err
	}
	return c.printQuota(q)
}

type quotaSetCmd struct {
	Vaults      *int64 `placeholder:"N" help:"How many vaults the team may have; -1 is as many as usual."`
	Credentials *int64 `placeholder:"N" help:"Credentials, beside captured ones."`
	Agents      *int64 `placeholder:"N" help:"Agents."`
	Sandboxes   *int64 `placeholder:"N" help:"Sandboxes in use."`
	Tokens      *int64 `placeholder:"N" help:"API tokens."`
	Events      *int64 `placeholder:"N" help:"Audit events a day of UTC. Beyond them no credential is used."`
	Fetches     *int64 `placeholder:"N" help:"Fetches of secrets by sandboxes, a minute."`
}

func (cmd *quotaSetCmd) Run(ctx context.Context, c *cli) error {
	change := control.QuotaChange{Vaults: cmd.Vaults, Credentials: cmd.Credentials, Agents: cmd.Agents, Sandboxes: cmd.Sandboxes, Tokens: cmd.Tokens, Events: cmd.Events, Fetches: cmd.Fetches}
	if change == (control.QuotaChange{}) {
		return usagef("say what to change, as in --sandboxes=500")
	}
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	q, err := api.SetQuota(ctx, team, change)
	if err != nil {
		return err
	}
	return c.printQuota(q)
}

func (c *cli) printQuota(q control.Quota) error {
	type row struct {
		kind        string
		used, limit int64
	}
	return c.emit(q, func() error {
		return printList(c, []row{
			{"vaults", q.Used.Vaults, q.Limits.Vaults}, {"credentials", q.Used.Credentials, q.Limits.Credentials}, {"agents", q.Used.Agents, q.Limits.Agents},
			{"sandboxes", q.Used.Sandboxes, q.Limits.Sandboxes}, {"tokens", q.Used.Tokens, q.Limits.Tokens},
			{"events a day", q.Used.Events, q.Limits.Events}, {"fetches a minute", q.Used.Fetches, q.Limits.Fetches},
		}, "KIND USED MAY-HAVE", func(r row) []string {
			return []string{r.kind, strconv.FormatInt(r.used, 10), strconv.FormatInt(r.limit, 10)}
		})
	})
}
