package main

import (
	"context"
	"strings"

	"sallyport/control"
)

type sessionCmd struct {
	List   sessionListCmd   `cmd:"" help:"List your logins; everybody's for an owner of every team."`
	Revoke sessionRevokeCmd `cmd:"" help:"End a login at once."`
}

type sessionListCmd struct{}

func (cmd *sessionListCmd) Run(ctx context.Context, c *cli) error {
	api, err := c.connect()
	if err != nil {
		return err
	}
	sessions, err := api.Sessions(ctx)
	if err != nil {
		return err
	}
	return printList(c, sessions, "ID EMAIL ROLES CREATED USED EXPIRES", func(s control.Session) []string {
		return []string{s.ID, s.Email, grantsText(s.Grants), stamp(s.CreatedAt), stamp(s.LastUsedAt), stamp(s.ExpiresAt)}
	})
}

// grantsText is roles as in "admin:platform viewer:*".
func grantsText(grants []control.Grant) string {
	texts := make([]string, len(grants))
	for i, g := range grants {
		texts[i] = string(g.Role) + ":" + first(g.Team, "*")
	}
	return strings.Join(texts, " ")
}

type sessionRevokeCmd struct {
	ID string `arg:"" help:"The login's id, or current."`
}

func (cmd *sessionRevokeCmd) Run(ctx context.Context, c *cli) error {
	api, err := c.connect()
	if err != nil {
		return err
	}
	if err := api.DeleteSession(ctx, cmd.ID); err != nil {
		return err
	}
	return c.say(removed{cmd.ID}, "session %s ended", cmd.ID)
}
