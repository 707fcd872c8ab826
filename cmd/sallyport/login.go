package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sallyport/cmd/sallyport/client"
	"sallyport/control"
)

type loginCmd struct {
	OIDC    bool `name:"oidc" help:"As a person, by the control plane's OIDC issuer; so it is anyway where there is one and you are at a terminal."`
	Browser bool `help:"The same, with a browser on this machine, where a code entered elsewhere would do."`
}

// Run keeps a server and token once the server has accepted the token.
func (cmd *loginCmd) Run(ctx context.Context, c *cli) error {
	// A broken or exposed configuration is what login is there to replace.
	kept, _ := c.loadConfig()
	kept.Token = ""
	s, err := c.settingsOver(kept)
	if err != nil {
		return err
	}
	if len(s.Token) == 0 {
		if s.Token, err = cmd.person(ctx, c, s); err != nil {
			return err
		}
	}
	if len(s.Token) == 0 {
		if s.Token, err = c.readToken("-"); err != nil {
			return err
		}
		if err := checkToken(s.Token); err != nil {
			return err
		}
	}
	api, err := c.dial(s)
	if err != nil {
		return err
	}
	info, err := api.Info(ctx)
	if err != nil {
		return err
	}
	next := config{Server: s.Server, Token: string(s.Token), CA: s.CA, Team: first(info.Team, string(c.flags.Team))}
	if file := string(c.flags.TokenFile); file != "" && file != "-" {
		if next.TokenFile, err = filepath.Abs(file); err != nil {
			return fmt.Errorf("find the token file: %w", err)
		}
	}
	name, err := c.saveConfig(next)
	if err != nil {
		return err
	}
	return c.say(status{s.Server, info}, "logged in to %s as %s; kept in %s", s.Server, whois(info), name)
}

// person logs in as one if that is wanted, and gives no token if it is not.
func (cmd *loginCmd) person(ctx context.Context, c *cli, s settings) (control.Secret, error) {
	wanted := cmd.OIDC || cmd.Browser
	if !wanted && !c.atTerminal() {
		return nil, nil
	}
	api, err := client.New(client.Config{Server: s.Server, CA: []byte(s.CA), UserAgent: "sallyport/" + version()})
	if err != nil {
		return nil, err
	}
	token, err := c.logInAsPerson(ctx, api, cmd.Browser)
	var answer *client.Error
	if !wanted && errors.As(err, &answer) && answer.Code == control.CodeNotFound { // there is no issuer
		return nil, nil
	}
	return token, err
}

func whois(info client.Info) string {
	if info.Person != nil {
		return fmt.Sprintf("%s (%s)", info.Person.Email, grantsText(info.Grants))
	}
	if info.Team == "" {
		return fmt.Sprintf("%s (%s of every team)", info.Token, info.Role)
	}
	return fmt.Sprintf("%s (%s of team %s)", info.Token, info.Role, info.Team)
}

type logoutCmd struct{}

func (cmd *logoutCmd) Run(ctx context.Context, c *cli) error {
	dir, err := c.configDir()
	if err != nil {
		return err
	}
	name := filepath.Join(dir, configName)
	ended := "the token is good until it is removed (sallyport token rm)"
	if kept, err := c.loadConfig(); err == nil && isSession(kept.Token) {
		ended = "the session is ended"
		if err := c.endSession(ctx, kept); err != nil {
			c.warn("the session goes on until it expires: %v", err)
			ended = "it goes on (sallyport session revoke)"
		}
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the configuration: %w", err)
	}
	return c.say(removed{name}, "logged out; %s", ended)
}

// isSession reports whether a token is that of a person's login.
func isSession(token string) bool { return strings.HasPrefix(token, "sp_session_") }

// endSession ends the login that is kept; one that is over already is as well.
func (c *cli) endSession(ctx context.Context, kept config) error {
	api, err := client.New(client.Config{Server: kept.Server, Token: control.Secret(kept.Token), CA: []byte(kept.CA), UserAgent: "sallyport/" + version()})
	if err != nil {
		return err
	}
	err = api.DeleteSession(ctx, "current")
	var answer *client.Error
	if errors.As(err, &answer) && answer.Code == control.CodeUnauthorized {
		return nil
	}
	return err
}

type statusCmd struct{}

// status is what the control plane says, and where it was asked.
type status struct {
	Server string `json:"server"`
	client.Info
}

func (cmd *statusCmd) Run(ctx context.Context, c *cli) error {
	s, err := c.settings()
	if err != nil {
		return err
	}
	api, err := c.dial(s)
	if err != nil {
		return err
	}
	info, err := api.Info(ctx)
	if err != nil {
		return err
	}
	return c.say(status{s.Server, info}, "%s runs sallyport-control %s; you are %s", s.Server, info.Version, whois(info))
}
