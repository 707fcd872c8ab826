package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
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
	decision := e.Decision
	if e.Code != "" {
		decision += ", " + e.Code
	}
	rows := [][2]string{{"decision", decision}, {"reason", e.Reason}, {"credential", e.Credential}}
	if e.Credential != "" {
		rows = append(rows, [2]string{"version", strconv.FormatInt(e.Version, 10)}, [2]string{"inject", strings.Join(e.Inject, "; ")}, [2]string{"limits", e.Limits})
	}
	for _, note := range e.Notes {
		rows = append(rows, [2]string{"note", note})
	}
	return c.emit(e, func() error { return c.printRows(rows) })
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
