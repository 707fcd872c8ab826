package main

import (
	"context"
	"strconv"

	"sallyport/cmd/sallyport/client"
	"sallyport/control"
)

type sourceCmd struct {
	Add    sourceAddCmd    `cmd:"" help:"Name a store outside that credentials of a vault may have their secrets in, with what opens it."`
	List   sourceListCmd   `cmd:"" help:"List sources, never what opens them."`
	Rotate sourceRotateCmd `cmd:"" help:"Store another secret that opens a source."`
	Rm     sourceRmCmd     `cmd:"" help:"Forget a source that no credential has its secret in."`
}

type sourceAddCmd struct {
	Vault      string            `required:"" placeholder:"VAULT" help:"The vault whose credentials may use it."`
	Name       string            `required:"" placeholder:"NAME" help:"Its name, which 'credential add --from' begins with."`
	Kind       string            `required:"" placeholder:"KIND" help:"What it is: vault, aws or onepassword, see docs/external.md."`
	Setting    map[string]string `mapsep:"none" placeholder:"NAME=VALUE" help:"Where it is, and what is not secret of what opens it. May be repeated."`
	SecretFile string            `required:"" placeholder:"FILE" help:"File with the secret that opens it, - for standard input. One newline at its end is dropped."`
}

func (cmd *sourceAddCmd) Run(ctx context.Context, c *cli) error {
	if err := checkName("source", cmd.Name); err != nil {
		return err
	}
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	secret, err := c.readSecret(cmd.SecretFile, authOfStored)
	if err != nil {
		return err
	}
	defer secret.Wipe()
	source, err := api.CreateSource(ctx, team, cmd.Vault, client.NewSource{Name: cmd.Name, Kind: cmd.Kind, Settings: cmd.Setting, Secret: secret})
	if err != nil {
		return err
	}
	return c.say(source, "source %s stored in vault %s; a credential has its secret there by --from %s:PATH#FIELD", source.Name, source.Vault, source.Name)
}

type sourceListCmd struct {
	Vault string `required:"" placeholder:"VAULT" help:"The sources' vault."`
}

func (cmd *sourceListCmd) Run(ctx context.Context, c *cli) error {
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	sources, err := api.Sources(ctx, team, cmd.Vault)
	if err != nil {
		return err
	}
	return printList(c, sources, "VAULT NAME KIND SETTINGS VERSION ROTATED", func(s control.Source) []string {
		return []string{s.Vault, s.Name, s.Kind, settingsLine(s.Settings), strconv.FormatInt(s.Version, 10), stamp(s.RotatedAt)}
	})
}

type sourceRotateCmd struct {
	Vault      string `required:"" placeholder:"VAULT" help:"The source's vault."`
	Name       string `arg:"" help:"The source's name."`
	SecretFile string `required:"" placeholder:"FILE" help:"File with the new secret, - for standard input. One newline at its end is dropped."`
}

func (cmd *sourceRotateCmd) Run(ctx context.Context, c *cli) error {
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	secret, err := c.readSecret(cmd.SecretFile, authOfStored)
	if err != nil {
		return err
	}
	defer secret.Wipe()
	source, err := api.RotateSource(ctx, team, cmd.Vault, cmd.Name, secret)
	if err != nil {
		return err
	}
	return c.say(source, "source %s is opened by version %d now", source.Name, source.Version)
}

type sourceRmCmd struct {
	Vault string `required:"" placeholder:"VAULT" help:"The source's vault."`
	Name  string `arg:"" help:"The source's name."`
}

func (cmd *sourceRmCmd) Run(ctx context.Context, c *cli) error {
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	if err := api.DeleteSource(ctx, team, cmd.Vault, cmd.Name); err != nil {
		return err
	}
	return c.say(removed{cmd.Name}, "source %s removed", cmd.Name)
}
