package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
	"unicode"

	"sallyport/control"
)

type approvalCmd struct {
	List    approvalListCmd    `cmd:"" help:"List the requests that wait for a person."`
	Approve approvalApproveCmd `cmd:"" help:"Let a request go on."`
	Deny    approvalDenyCmd    `cmd:"" help:"Refuse a request."`
}

type approvalListCmd struct{}

func (cmd *approvalListCmd) Run(ctx context.Context, c *cli) error {
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	waiting, err := api.Approvals(ctx, team)
	if err != nil {
		return err
	}
	return printList(c, waiting, "ID CREDENTIAL VERSION SCOPE AGENT SANDBOX METHOD HOST PATH UNTIL", func(a control.Approval) []string {
		return []string{
			a.ID, a.Credential, strconv.FormatInt(a.Version, 10), string(a.Scope), a.Agent, a.Sandbox,
			plain(a.Method), approvalHost(a), plain(a.Path), stamp(a.ExpiresAt),
		}
	})
}

type approvalApproveCmd struct {
	ID string `arg:"" name:"id" help:"Its id, as list shows it."`
}

func (cmd *approvalApproveCmd) Run(ctx context.Context, c *cli) error {
	return c.decide(ctx, cmd.ID, true)
}

type approvalDenyCmd struct {
	ID string `arg:"" name:"id" help:"Its id, as list shows it."`
}

func (cmd *approvalDenyCmd) Run(ctx context.Context, c *cli) error {
	return c.decide(ctx, cmd.ID, false)
}

// decide decides about what it shows, and nothing else.
func (c *cli) decide(ctx context.Context, id string, approve bool) error {
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	shown, err := api.Approval(ctx, team, id)
	if err != nil {
		return err
	}
	decided, err := api.Decide(ctx, team, shown, approve)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("%s %s%s", plain(decided.Method), approvalHost(decided), plain(decided.Path))
	if approve && decided.Scope == control.ApproveFirst {
		what = fmt.Sprintf("every request, until %s; the first is %s", decided.ExpiresAt.UTC().Format(time.RFC3339), what)
	}
	return c.say(decided, "%s for sandbox %s of agent %s with %s version %d: %s", decided.State, decided.Sandbox, decided.Agent, decided.Credential, decided.Version, what)
}

// approvalHost is the host as a person should see it: a name with characters
// beyond ASCII is in its ASCII form, and said to be one: it can look like another.
func approvalHost(a control.Approval) string {
	host := plain(a.Host)
	if a.Port != 443 {
		host = net.JoinHostPort(host, strconv.Itoa(a.Port))
	}
	for label := range strings.SplitSeq(a.Host, ".") {
		if strings.HasPrefix(label, "xn--") {
			return host + " (an international name)"
		}
	}
	return host
}

// plain escapes all but printable ASCII: an agent chooses what is shown to the
// person who decides, and letters of other scripts look like those of this one.
func plain(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII || !unicode.IsPrint(r) }) {
		return s
	}
	quoted := strconv.QuoteToASCII(s)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}
