package main

import (
	"context"
	"strconv"

	"github.com/alecthomas/kong"

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
	Vaults      *amountFlag `placeholder:"N" help:"How many vaults the team may have; usual is as many as a team that was given no quota."`
	Credentials *amountFlag `placeholder:"N" help:"Credentials, beside captured ones."`
	Agents      *amountFlag `placeholder:"N" help:"Agents."`
	Sandboxes   *amountFlag `placeholder:"N" help:"Sandboxes in use."`
	Tokens      *amountFlag `placeholder:"N" help:"API tokens."`
	Events      *amountFlag `placeholder:"N" help:"Audit events a day of UTC. Beyond them no credential is used."`
	Fetches     *amountFlag `placeholder:"N" help:"Fetches of secrets by sandboxes, a minute."`
}

// amountFlag is a number, or usual, which the API knows as -1.
type amountFlag int64

// Decode reads the value, also one that kong would take for a flag: -1 is as good as usual.
func (n *amountFlag) Decode(parsed *kong.DecodeContext) error {
	text := parsed.Scan.Pop().String()
	if text == "usual" {
		text = "-1"
	}
	number, err := strconv.ParseInt(text, 10, 64)
	if err != nil || number < -1 {
		return usagef("takes a number, or usual")
	}
	*n = amountFlag(number)
	return nil
}

func (cmd *quotaSetCmd) Run(ctx context.Context, c *cli) error {
	change := control.QuotaChange{
		Vaults: (*int64)(cmd.Vaults), Credentials: (*int64)(cmd.Credentials), Agents: (*int64)(cmd.Agents), Sandboxes: (*int64)(cmd.Sandboxes),
		Tokens: (*int64)(cmd.Tokens), Events: (*int64)(cmd.Events), Fetches: (*int64)(cmd.Fetches),
	}
	if change == (control.QuotaChange{}) {
		return usagef("say what to change, as in --sandboxes 500")
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
