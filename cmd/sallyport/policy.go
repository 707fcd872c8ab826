package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"sallyport/cmd/sallyport/client"
	"sallyport/control"
	"sallyport/control/policy"
)

type policyCmd struct {
	Set  policySetCmd  `cmd:"" help:"Replace what an agent may reach, in its running sandboxes too."`
	Show policyShowCmd `cmd:"" help:"Print it, as the flags that 'set' takes."`
}

type policySetCmd struct {
	Agent   string   `arg:"" help:"The agent's name."`
	Default string   `placeholder:"ACTION" help:"What happens where no rule fits and no credential is bound: inspect (if not given), passthrough or deny."`
	Rule    []string `sep:"none" placeholder:"RULE" help:"'ACTION HOST[:PORT][,HOST[:PORT]…] [METHOD[,METHOD…]] [/PATH…]', as in 'deny api.example.com DELETE'. HOST: a name, *.NAME (one label), **.NAME (any number), an address, a prefix, or * for any. May be repeated; the first rule that fits decides."`
	File    string   `placeholder:"FILE" help:"File with the whole policy as JSON, - for standard input; 'policy show -o json' prints one."`
}

func (cmd *policySetCmd) Run(ctx context.Context, c *cli) error {
	wanted, err := cmd.policy(c)
	if err != nil {
		return err
	}
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	set, err := api.SetPolicy(ctx, team, cmd.Agent, wanted)
	if err != nil {
		return err
	}
	return c.sayPolicy(set, fmt.Sprintf("policy of agent %s set: default %s, %s", cmd.Agent, set.Default, counted(len(set.Rules), "rule")))
}

// policy is what the flags or the file say.
func (cmd *policySetCmd) policy(c *cli) (control.Policy, error) {
	switch flags := cmd.Default != "" || len(cmd.Rule) > 0; {
	case flags && cmd.File != "":
		return control.Policy{}, usagef("--file holds the whole policy; give it, or --default and --rule")
	case cmd.File != "":
		return c.readPolicy(cmd.File)
	case !flags:
		return control.Policy{}, withHint(usagef("policy set needs --default, --rule or --file: it replaces the whole policy"),
			"--default inspect alone is the policy of a new agent; 'sallyport agent policy show AGENT' prints the one that is set")
	}
	wanted := control.Policy{Default: control.Action(cmd.Default)}
	for _, text := range cmd.Rule {
		rule, err := policy.ParseRule(text)
		if err != nil {
			return control.Policy{}, withHint(usagef("--rule: %v", err), "sallyport agent policy set --help")
		}
		wanted.Rules = append(wanted.Rules, rule)
	}
	wanted, err := policy.Check(wanted)
	if err != nil {
		return control.Policy{}, usagef("%v", err)
	}
	return wanted, nil
}

// maxPolicyFile bounds a policy's file, in bytes; the control plane takes no more.
const maxPolicyFile = 128 << 10

// readPolicy reads what --file names: the JSON that 'show' prints. What the
// control plane adds to a policy is passed over.
func (c *cli) readPolicy(name string) (control.Policy, error) {
	text, err := c.interruptible(func() (control.Secret, error) { return c.readPolicyFile(name) })
	if err != nil {
		return control.Policy{}, err
	}
	var read client.AgentPolicy
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&read); err != nil {
		return control.Policy{}, withHint(fmt.Errorf("--file: it is not the JSON of a policy: %w", err),
			`want {"default": "deny", "rules": [{"action": "inspect", "hosts": ["pypi.org"], "methods": ["GET"]}]}`)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return control.Policy{}, errors.New("--file: something follows the JSON of the policy")
	}
	wanted, err := policy.Check(read.Policy)
	if err != nil {
		return control.Policy{}, fmt.Errorf("--file: %w", err)
	}
	return wanted, nil
}

func (c *cli) readPolicyFile(name string) ([]byte, error) {
	from := c.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("--file: %w", err)
		}
		defer f.Close()
		from = f
	}
	text, err := io.ReadAll(io.LimitReader(from, maxPolicyFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("--file: %w", err)
	case len(text) > maxPolicyFile:
		return nil, fmt.Errorf("--file: it is longer than %d bytes", maxPolicyFile)
	}
	return text, nil
}

type policyShowCmd struct {
	Agent string `arg:"" help:"The agent's name."`
}

func (cmd *policyShowCmd) Run(ctx context.Context, c *cli) error {
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	shown, err := api.Policy(ctx, team, cmd.Agent)
	if err != nil {
		return err
	}
	lines := []string{"--default " + string(shown.Default)}
	for _, rule := range shown.Rules {
		lines = append(lines, "--rule "+quoted(policy.FormatRule(rule)))
	}
	return c.sayPolicy(shown, lines...)
}

// sayPolicy prints a policy as JSON, or lines with its notes as warnings.
func (c *cli) sayPolicy(p client.AgentPolicy, lines ...string) error {
	return c.emit(p, func() error {
		for _, line := range lines {
			if _, err := fmt.Fprintln(c.stdout, visible(line)); err != nil {
				return err
			}
		}
		for _, note := range p.Notes {
			c.warn("%s", note)
		}
		return nil
	})
}

// quoted is text as one word of a POSIX shell.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
