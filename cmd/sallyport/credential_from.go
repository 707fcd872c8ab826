package main

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"sallyport/control"
)

// parseFrom reads --from, nil for none.
func parseFrom(text string) (*control.Place, error) {
	if text == "" {
		return nil, nil
	}
	place, err := control.ParsePlace(text)
	if err != nil {
		return nil, withHint(usagef("--from: %v", err), "sallyport source list --vault VAULT shows the sources that there are")
	}
	return &place, nil
}

type credentialRefreshCmd struct {
	Vault string   `required:"" placeholder:"VAULT" help:"The credential's vault."`
	Name  string   `arg:"" help:"The credential's name."`
	Wait  waitFlag `help:"Wait until every connected sandbox uses the new version; --wait alone waits up to 10s, --wait=DURATION as long."`
}

func (cmd *credentialRefreshCmd) Run(ctx context.Context, c *cli) error {
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	wait := time.Duration(cmd.Wait)
	rotation, err := api.RefreshCredential(ctx, team, cmd.Vault, cmd.Name, wait)
	if err != nil {
		return err
	}
	return c.sayRotated(cmd.Name, rotation, wait)
}

// settingsLine are settings in a table.
func settingsLine(s control.Settings) string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(s)) {
		pairs = append(pairs, name+"="+s[name])
	}
	return strings.Join(pairs, " ")
}
