package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"

	"sallyport/control"
)

type auditCmd struct {
	List   auditListCmd   `cmd:"" help:"List events, the newest first."`
	Tail   auditTailCmd   `cmd:"" help:"Print events as they are recorded."`
	Export auditExportCmd `cmd:"" help:"Print events as lines of JSON, the oldest first."`
	Verify auditVerifyCmd `cmd:"" help:"Verify that no event was changed, removed or moved."`
}

type auditListCmd struct {
	Limit int `default:"100" placeholder:"N" help:"How many, at most."`
}

func (cmd *auditListCmd) Run(ctx context.Context, c *cli) error {
	if cmd.Limit < 1 {
		return usagef("--limit is a number above 0")
	}
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	events, err := api.Audit(ctx, team, cmd.Limit)
	if err != nil {
		return err
	}
	return printList(c, events, "TIME KIND WHO WHAT DECISION STATUS CREDENTIAL TOOK", eventRow)
}

func eventRow(e control.Event) []string {
	return []string{
		stamp(e.Time), e.Kind, eventWho(e), eventWhat(e),
		strings.Trim(e.Decision+": "+e.Reason, ": "), numberOf(int64(e.Status)), eventCredential(e), eventTime(e),
	}
}

// eventWho is the agent whose sandbox did it, or who did it otherwise: of what an admin
// did to a sandbox, or about a request, it is the admin.
func eventWho(e control.Event) string {
	if strings.HasPrefix(e.Actor, "sandbox:") {
		return cmp.Or(e.Agent, e.Actor)
	}
	return cmp.Or(e.Actor, e.Agent)
}

// eventWhat is the request, without the ports that go without saying, or what
// an admin's act was done to. Of a connection whose requests nobody saw it is the
// protocol, for want of a method.
func eventWhat(e control.Event) string {
	if e.Host == "" {
		return e.Detail
	}
	host := e.Host
	if e.Port != 0 && e.Port != 443 && e.Port != 80 {
		host = net.JoinHostPort(host, strconv.Itoa(e.Port))
	}
	return strings.TrimSpace(cmp.Or(e.Method, e.Protocol) + " " + host + e.Path)
}

func eventCredential(e control.Event) string {
	if e.Credential == "" || e.Version == 0 {
		return e.Credential
	}
	return fmt.Sprintf("%s@%d", e.Credential, e.Version)
}

func eventTime(e control.Event) string {
	if e.DurationUS == 0 {
		return ""
	}
	if e.DurationUS >= 10e6 {
		return fmt.Sprintf("%.1fs", float64(e.DurationUS)/1e6)
	}
	return fmt.Sprintf("%.1fms", float64(e.DurationUS)/1000)
}

func numberOf(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}
