package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"sallyport/cmd/sallyport/client"
	"sallyport/control"
)

// auditFilter says which events.
type auditFilter struct {
	Agent    string `placeholder:"AGENT" help:"Only those of this agent."`
	Host     string `placeholder:"HOST" help:"Only those of requests to this host."`
	Decision string `placeholder:"DECISION" help:"Only those decided so: inject, inspect, passthrough or refuse."`
}

func (f auditFilter) filter() client.AuditFilter {
	return client.AuditFilter{Agent: f.Agent, Host: f.Host, Decision: f.Decision}
}

type auditTailCmd struct {
	auditFilter
	Follow bool      `short:"f" help:"Wait for more, through restarts of the control plane."`
	Since  sinceFlag `default:"10m" placeholder:"TIME" help:"Begin with those recorded then: 2026-01-31, 2026-01-31T15:04:05Z or a time ago such as 1h (${default})."`
}

const (
	followWait  = 20 * time.Second // of one call
	followPause = time.Second      // after one that failed
)

func (cmd *auditTailCmd) Run(ctx context.Context, c *cli) error {
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	f := cmd.filter()
	f.Since = cmd.Since.Time
	answered, away := false, false
	for {
		got, err := api.FollowAudit(ctx, team, f)
		var unreachable *client.UnreachableError
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case cmd.Follow && answered && (errors.As(err, &unreachable) || control.CodeOf(err) == control.CodeUnavailable):
			if !away {
				away = true
				c.warn("%v; trying again", err)
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(followPause):
			}
			continue
		case err != nil:
			return err
		}
		answered, away = true, false
		for _, item := range got.Items {
			if err := c.printEvent(item); err != nil {
				return err
			}
		}
		if more := got.Next > f.After && len(got.Items) > 0; !more && !cmd.Follow {
			return nil
		}
		f.After = got.Next
		if cmd.Follow {
			f.Wait = followWait
		}
	}
}

// printEvent prints a line for an event, as the user wants.
func (c *cli) printEvent(item json.RawMessage) error {
	line := visibleJSON(string(item))
	if c.flags.Output != "json" {
		var e control.Event
		if err := json.Unmarshal(item, &e); err != nil {
			return fmt.Errorf("read an event: %w", err)
		}
		cells := eventRow(e)
		for i, cell := range cells {
			cells[i] = orDash(visible(cell))
		}
		line = strings.Join(cells, "  ")
	}
	_, err := fmt.Fprintln(c.stdout, line)
	return err
}

type auditExportCmd struct {
	auditFilter
	Since sinceFlag `placeholder:"TIME" help:"Those recorded then or later: 2026-01-31, 2026-01-31T15:04:05Z or a time ago such as 24h."`
	Until sinceFlag `placeholder:"TIME" help:"Those recorded before."`
}

func (cmd *auditExportCmd) Run(ctx context.Context, c *cli) error {
	if !cmd.Until.IsZero() && !cmd.Until.After(cmd.Since.Time) {
		return usagef("--until is not after --since")
	}
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	f := cmd.filter()
	f.Since, f.Until = cmd.Since.Time, cmd.Until.Time
	for {
		got, err := api.FollowAudit(ctx, team, f)
		if err != nil {
			return err
		}
		for _, item := range got.Items {
			if _, err := fmt.Fprintln(c.stdout, visibleJSON(string(item))); err != nil {
				return err
			}
		}
		if len(got.Items) == 0 {
			return nil
		}
		f.After = got.Next
	}
}

// sinceFlag is a time, or how long ago it was.
type sinceFlag struct{ time.Time }

// UnmarshalText implements encoding.TextUnmarshaler.
func (f *sinceFlag) UnmarshalText(text []byte) error {
	if ago, err := time.ParseDuration(string(text)); err == nil && ago >= 0 {
		f.Time = time.Now().Add(-ago)
		return nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, string(text)); err == nil {
			f.Time = at
			return nil
		}
	}
	return fmt.Errorf("%q is neither a time such as 2026-01-31T15:04:05Z or 2026-01-31, nor how long ago, such as 24h", text)
}

type auditVerifyCmd struct {
	Head string `placeholder:"HASH" help:"A head that an earlier verification printed and you kept: it must be in the chain, so that its end was not cut off or written anew."`
}

// verified is what audit verify prints.
type verified struct {
	Events int64  `json:"events"`
	Start  string `json:"start,omitempty"`
	Head   string `json:"head"`
}

func (cmd *auditVerifyCmd) Run(ctx context.Context, c *cli) error {
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	_, head, ok := strings.Cut(cmd.Head, ":") // POSITION:HASH, as it is printed
	if !ok {
		head = cmd.Head
	}
	var sum verified
	kept := head == ""
	for {
		v, err := api.VerifyAudit(ctx, team, sum.Head, head)
		if err != nil {
			return err
		}
		sum.Events, sum.Head, kept = sum.Events+v.Events, v.Head, kept || v.Kept
		if v.Start != "" {
			sum.Start = v.Start
		}
		if v.Broken != "" {
			return errors.New(v.Broken)
		}
		if !v.Next {
			break
		}
	}
	if !kept {
		return errors.New("the head that you kept is not in the audit chain: the chain's end was cut off or written anew, or retention has removed events beyond it")
	}
	return c.say(sum, "%d events are as they were written; keep the head: %s", sum.Events, sum.Head)
}
