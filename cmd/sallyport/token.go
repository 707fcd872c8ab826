package main

import (
	"context"
	"fmt"
	"time"

	"sallyport/cmd/sallyport/client"
	"sallyport/control"
)

type tokenCmd struct {
	Create tokenCreateCmd `cmd:"" help:"Make an API token and print it, alone. It is shown this once."`
	List   tokenListCmd   `cmd:"" help:"List tokens, never their values."`
	Rotate tokenRotateCmd `cmd:"" help:"Give a token a new value and print it, alone. It is shown this once."`
	Rm     tokenRmCmd     `cmd:"" help:"Remove a token; it is refused from then on."`
}

type tokenCreateCmd struct {
	Name     string         `arg:"" help:"What to call it."`
	Role     string         `required:"" enum:"owner,admin,member,viewer" placeholder:"ROLE" help:"owner: everything, tokens too; admin: everything of the team but tokens; member: start and stop sandboxes; viewer: read."`
	Expires  *time.Duration `placeholder:"DURATION" help:"How long it is good, as in 720h (default: until it is removed)."`
	AllTeams bool           `help:"For every team instead of one."`
}

func (cmd *tokenCreateCmd) Run(ctx context.Context, c *cli) error {
	if err := checkName("token", cmd.Name); err != nil {
		return err
	}
	if cmd.Expires != nil && *cmd.Expires <= 0 {
		return usagef("--expires is a time above 0, as in --expires=720h")
	}
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	wanted := client.NewToken{Name: cmd.Name, Role: control.Role(cmd.Role)}
	if cmd.Expires != nil {
		end := time.Now().Add(*cmd.Expires).UTC()
		wanted.ExpiresAt = &end
	}
	made, err := api.CreateToken(ctx, tokenTeam(team, cmd.AllTeams), wanted)
	if err != nil {
		return err
	}
	return c.emit(made, func() error {
		_, err := fmt.Fprintln(c.stdout, string(made.Value))
		return err
	})
}

// tokenTeam is the team whose tokens are meant: "" for those of every team.
func tokenTeam(team string, all bool) string {
	if all {
		return ""
	}
	return team
}

type tokenListCmd struct {
	AllTeams bool `help:"The tokens for every team instead of one's."`
}

func (cmd *tokenListCmd) Run(ctx context.Context, c *cli) error {
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	tokens, err := api.Tokens(ctx, tokenTeam(team, cmd.AllTeams))
	if err != nil {
		return err
	}
	return printList(c, tokens, "NAME TEAM ROLE CREATED EXPIRES USED", func(t control.Token) []string {
		return []string{t.Name, t.Team, string(t.Role), stamp(t.CreatedAt), stampOf(t.ExpiresAt), stampOf(t.LastUsedAt)}
	})
}

type tokenRotateCmd struct {
	Name     string         `arg:"" help:"The token's name."`
	Overlap  time.Duration  `placeholder:"DURATION" help:"How long the value it has is good yet, 168h at most (default: no longer)."`
	Expires  *time.Duration `placeholder:"DURATION" help:"How long it is good from now on (default: as long as it was made for)."`
	AllTeams bool           `help:"A token for every team instead of one's."`
}

func (cmd *tokenRotateCmd) Run(ctx context.Context, c *cli) error {
	if cmd.Expires != nil && *cmd.Expires <= 0 || cmd.Overlap < 0 {
		return usagef("--expires and --overlap are times above 0, as in --overlap=1h")
	}
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	var wanted client.TokenRotation
	if cmd.Overlap > 0 {
		wanted.Overlap = cmd.Overlap.String()
	}
	if cmd.Expires != nil {
		end := time.Now().Add(*cmd.Expires).UTC()
		wanted.ExpiresAt = &end
	}
	rotated, err := api.RotateToken(ctx, tokenTeam(team, cmd.AllTeams), cmd.Name, wanted)
	if err != nil {
		return err
	}
	return c.emit(rotated, func() error {
		_, err := fmt.Fprintln(c.stdout, string(rotated.Value))
		return err
	})
}

type tokenRmCmd struct {
	Name     string `arg:"" help:"The token's name."`
	AllTeams bool   `help:"A token for every team instead of one's."`
}

func (cmd *tokenRmCmd) Run(ctx context.Context, c *cli) error {
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	if err := api.DeleteToken(ctx, tokenTeam(team, cmd.AllTeams), cmd.Name); err != nil {
		return err
	}
	return c.say(removed{cmd.Name}, "token %s removed", cmd.Name)
}
