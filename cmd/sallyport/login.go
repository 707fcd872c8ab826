package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"sallyport/cmd/sallyport/client"
)

type loginCmd struct{}

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
	next := config{Server: s.Server, Token: string(s.Token), CA: s.CA, Team: first(info.Team, c.flags.Team)}
	if file := c.flags.TokenFile; file != "" && file != "-" {
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

func whois(info client.Info) string {
	if info.Team == "" {
		return fmt.Sprintf("%s (%s of every team)", info.Token, info.Role)
	}
	return fmt.Sprintf("%s (%s of team %s)", info.Token, info.Role, info.Team)
}

type logoutCmd struct{}

func (cmd *logoutCmd) Run(c *cli) error {
	dir, err := c.configDir()
	if err != nil {
		return err
	}
	name := filepath.Join(dir, configName)
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the configuration: %w", err)
	}
	return c.say(removed{name}, "logged out; the token is good until it is removed (sallyport token rm)")
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
