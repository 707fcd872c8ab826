package main

import (
	"context"

	"sallyport/control"
)

type vaultCmd struct {
	Create vaultCreateCmd `cmd:"" help:"Make a vault."`
	List   vaultListCmd   `cmd:"" help:"List the team's vaults."`
	Rm     vaultRmCmd     `cmd:"" help:"Destroy a vault, its credentials and its key. There is no way back."`
}

type vaultCreateCmd struct {
	Name string `arg:"" help:"The vault's name."`
}

func (cmd *vaultCreateCmd) Run(ctx context.Context, c *cli) error {
	if err := checkName("vault", cmd.Name); err != nil {
		return err
	}
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	vault, err := api.CreateVault(ctx, team, cmd.Name)
	if err != nil {
		return err
	}
	return c.say(vault, "vault %s created", vault.Name)
}

type vaultListCmd struct{}

func (cmd *vaultListCmd) Run(ctx context.Context, c *cli) error {
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	vaults, err := api.Vaults(ctx, team)
	if err != nil {
		return err
	}
	return printList(c, vaults, "NAME CREATED", func(v control.Vault) []string {
		return []string{v.Name, stamp(v.CreatedAt)}
	})
}

type vaultRmCmd struct {
	Name string `arg:"" help:"The vault's name."`
}

func (cmd *vaultRmCmd) Run(ctx context.Context, c *cli) error {
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	if err := api.DeleteVault(ctx, team, cmd.Name); err != nil {
		return err
	}
	return c.say(removed{cmd.Name}, "vault %s removed", cmd.Name)
}
