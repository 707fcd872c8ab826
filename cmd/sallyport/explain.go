package main

import (
	"context"
	"fmt"

	"sallyport/control"
)

type explainCmd struct {
	Agent  string `arg:"" help:"The agent that would ask."`
	Method string `arg:"" help:"As in GET."`
	URL    string `arg:"" name:"url" help:"As in https://api.example.com/v1/charges."`
}

func (cmd *explainCmd) Run(ctx context.Context, c *cli) error {
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	e, err := api.Explain(ctx, team, cmd.Agent, cmd.Method, cmd.URL)
	if err != nil {
		return err
	}
	return c.emit(e, func() error { return c.printExplanation(e) })
}

// printExplanation prints what becomes of the request, and below what is known of it.
func (c *cli) printExplanation(e control.Explanation) error {
	verdict := e.Decision
	if e.Code != "" {
		verdict += " (" + e.Code + ")"
	}
	if _, err := fmt.Fprintf(c.stdout, "%s: %s\n", visible(verdict), visible(e.Reason)); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	var rows [][2]string
	say := func(name, text string) {
		if text != "" {
			rows = append(rows, [2]string{name, text})
		}
	}
	if e.Credential != "" {
		say("credential", fmt.Sprintf("%s, version %d", e.Credential, e.Version))
	}
	if e.Overlap != nil {
		say("on a 401", fmt.Sprintf("once more with version %d, which is good until %s, unless it has a body or opens a WebSocket", e.Overlap.Version, stamp(e.Overlap.Until)))
	}
	for _, rule := range e.Inject {
		say("inject", rule)
	}
	say("limits", e.Limits)
	for _, note := range e.Notes {
		say("note", note)
	}
	return c.printRows(rows)
}

// printRows prints what is known of one thing, a line each.
func (c *cli) printRows(rows [][2]string) error {
	for _, row := range rows {
		if _, err := fmt.Fprintf(c.stdout, "%-12s %s\n", row[0], orDash(visible(row[1]))); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
	return nil
}
