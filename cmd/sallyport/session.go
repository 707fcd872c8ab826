package main

import (
	"context"
	"strings"

	"sallyport/control"
)

type sessionCmd struct {
	List   sessionListCmd   `cmd:"" help:"List your logins, or the browsers signed in with your token; everybody's for an owner of every team."`
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
	return printList(c, sessions, "ID WHO ROLES CREATED USED EXPIRES", func(s control.Session) []string {
		return []string{s.ID, sessionWho(s), grantsText(s.Grants), stamp(s.CreatedAt), stamp(s.LastUsedAt), stamp(s.ExpiresAt)}
	})
}

// sessionWho is the person, or the API token that a browser signed in with.
func sessionWho(s control.Session) string {
	who := first(s.Email, "token "+s.Token)
	if s.Current {
		who += " (this one)"
	}
	return who
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
