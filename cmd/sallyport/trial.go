package main

import (
	"context"
	"errors"
	"fmt"

	"sallyport/cmd/sallyport/client"
	"sallyport/control"
)

type credentialTestCmd struct {
	Vault  string `required:"" placeholder:"VAULT" help:"The credential's vault."`
	Name   string `arg:"" help:"The credential's name."`
	Method string `enum:"GET,HEAD,POST," default:"" placeholder:"METHOD" help:"GET, HEAD or POST, without a body."`
	Path   string `placeholder:"PATH" help:"As in /v1/account; else the known service's own check, or /."`
	Host   string `placeholder:"HOST" help:"One of the credential's hosts; else the first."`
}

func (cmd *credentialTestCmd) Run(ctx context.Context, c *cli) error {
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	trial, err := api.TestCredential(ctx, team, cmd.Vault, cmd.Name, client.NewTrial{Method: cmd.Method, Path: cmd.Path, Host: cmd.Host})
	if err != nil {
		return err
	}
	line := fmt.Sprintf("credential %s, version %d: %s by %s %s after %d ms", cmd.Name, trial.Version, trial.Outcome, trial.Method, trial.Path, trial.Milliseconds)
	if trial.Outcome == control.OutcomeAccepted {
		return c.say(trial, "%s; %s", line, trial.Reason)
	}
	if err := c.say(trial, "%s", line); err != nil {
		return err
	}
	return errors.New(trial.Reason)
}
