package main

import (
	"context"
	"strings"

	"sallyport/control"
)

type agentCmd struct {
	Create agentCreateCmd `cmd:"" help:"Make an agent."`
	Pin    agentPinCmd    `cmd:"" help:"Let an agent use a vault's credentials."`
	Unpin  agentUnpinCmd  `cmd:"" help:"Stop it, at once, in its running sandboxes too."`
	Policy policyCmd      `cmd:"" help:"What an agent may reach beside its credentials' hosts."`
	List   agentListCmd   `cmd:"" help:"List the team's agents."`
	Rm     agentRmCmd     `cmd:"" help:"Remove an agent; its sandboxes are cut off."`
}

type agentCreateCmd struct {
	Name string `arg:"" help:"The agent's name."`
}

func (cmd *agentCreateCmd) Run(ctx context.Context, c *cli) error {
	if err := checkName("agent", cmd.Name); err != nil {
		return err
	}
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	agent, err := api.CreateAgent(ctx, team, cmd.Name)
	if err != nil {
		return err
	}
	return c.say(agent, "agent %s created", agent.Name)
}

// pinning is what pin and unpin print as JSON.
type pinning struct {
	Agent  string `json:"agent"`
	Vault  string `json:"vault"`
	Pinned bool   `json:"pinned"`
}

type agentPinCmd struct {
	Agent string `arg:"" help:"The agent's name."`
	Vault string `arg:"" help:"The vault's name."`
}

func (cmd *agentPinCmd) Run(ctx context.Context, c *cli) error {
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	if err := api.Pin(ctx, team, cmd.Agent, cmd.Vault); err != nil {
		return err
	}
	return c.say(pinning{cmd.Agent, cmd.Vault, true}, "vault %s pinned to agent %s", cmd.Vault, cmd.Agent)
}

type agentUnpinCmd struct {
	Agent string `arg:"" help:"The agent's name."`
	Vault string `arg:"" help:"The vault's name."`
}

func (cmd *agentUnpinCmd) Run(ctx context.Context, c *cli) error {
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	if err := api.Unpin(ctx, team, cmd.Agent, cmd.Vault); err != nil {
		return err
	}
	return c.say(pinning{cmd.Agent, cmd.Vault, false}, "vault %s unpinned from agent %s", cmd.Vault, cmd.Agent)
}

type agentListCmd struct{}

func (cmd *agentListCmd) Run(ctx context.Context, c *cli) error {
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	agents, err := api.Agents(ctx, team)
	if err != nil {
		return err
	}
	return printList(c, agents, "NAME VAULTS CREATED", func(a control.Agent) []string {
		return []string{a.Name, strings.Join(a.Vaults, ","), stamp(a.CreatedAt)}
	})
}

type agentRmCmd struct {
	Name string `arg:"" help:"The agent's name."`
}

func (cmd *agentRmCmd) Run(ctx context.Context, c *cli) error {
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	if err := api.DeleteAgent(ctx, team, cmd.Name); err != nil {
		return err
	}
	return c.say(removed{cmd.Name}, "agent %s removed", cmd.Name)
}
