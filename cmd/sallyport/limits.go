package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"sallyport/cmd/sallyport/client"
	"sallyport/control"
)

// limitFlags are the limits of a credential. A flag that is not given changes nothing.
type limitFlags struct {
	Method         []string `group:"Limits:" sep:"none" placeholder:"METHOD" help:"A method that it is for; * for any. May be repeated."`
	Path           []string `group:"Limits:" sep:"none" placeholder:"PATH" help:"A path that it is for, with all below it, as in /v1/charges; * for any. May be repeated."`
	Expires        string   `group:"Limits:" placeholder:"TIME" help:"From when on it is not used: 2027-01-31T12:00:00Z, or 90d or 12h from now; never for no end."`
	Rate           string   `group:"Limits:" placeholder:"RATE" help:"Requests a minute by all sandboxes together, as in 60/min; none for any number."`
	Budget         string   `group:"Limits:" placeholder:"BUDGET" help:"Requests by all sandboxes together: 1000, 1000/day or 1000/month (of UTC); none for any number."`
	Approve        string   `group:"Limits:" enum:"first,each,none," default:"" placeholder:"WHICH" help:"Requests that wait until a person approves: first, of a sandbox with a version of it, or each; none for none."`
	ApproveTimeout string   `group:"Limits:" placeholder:"TIME" help:"How long they wait (5m)."`
}

// changes reads the flags; nil if none was given.
func (f *limitFlags) changes(now time.Time) (*client.LimitChanges, error) {
	var c client.LimitChanges
	if len(f.Method) > 0 {
		c.Methods = unlessAny(f.Method)
	}
	if len(f.Path) > 0 {
		c.Paths = unlessAny(f.Path)
	}
	var err error
	if c.ExpiresAt, err = parseExpires(f.Expires, now); err != nil {
		return nil, err
	}
	if text, given := unlessNone(f.Rate); given {
		rate, err := control.ParseRate(text)
		if err != nil {
			return nil, usagef("--rate: %v", err)
		}
		c.Rate = &rate
	}
	if text, given := unlessNone(f.Budget); given {
		budget, err := control.ParseBudget(text)
		if err != nil {
			return nil, usagef("--budget: %v", err)
		}
		c.Budget = &budget
	}
	if text, given := unlessNone(f.Approve); given {
		approve := control.Approve(text)
		c.Approve = &approve
		if approve == control.ApproveNone {
			c.ApproveTimeout = new(control.Seconds)
		}
	}
	if f.ApproveTimeout != "" {
		c.ApproveTimeout = new(control.Seconds)
		if err := c.ApproveTimeout.UnmarshalText([]byte(f.ApproveTimeout)); err != nil {
			return nil, usagef("--approve-timeout: %v", err)
		}
	}
	if c == (client.LimitChanges{}) {
		return nil, nil
	}
	return &c, nil
}

// unlessAny is a list, which is empty where * stands for any.
func unlessAny(texts []string) *[]string {
	for _, text := range texts {
		if text == "*" {
			return &[]string{}
		}
	}
	return &texts
}

// unlessNone is the text of a flag that was given; none is an empty one.
func unlessNone(text string) (value string, given bool) {
	if text == "none" {
		return "", true
	}
	return text, text != ""
}

// parseExpires gives a time as the API reads it, nil for a flag that was not given.
func parseExpires(text string, now time.Time) (*string, error) {
	var at time.Time
	switch after, err := parseLong(text); {
	case text == "":
		return nil, nil
	case text == "never":
		return new(string), nil
	case err == nil:
		at = now.Add(after)
	default:
		if at, err = time.Parse(time.RFC3339, text); err != nil {
			return nil, usagef("--expires: want a time as 2027-01-31T12:00:00Z, or 90d or 12h from now, or never")
		}
	}
	said := at.UTC().Format(time.RFC3339)
	return &said, nil
}

// parseLong reads a duration, which may also be of days.
func parseLong(text string) (time.Duration, error) {
	if days, found := strings.CutSuffix(text, "d"); found {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil || n == 0 {
			return 0, usagef("%q is no number of days", text)
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, usagef("%q is no time above 0, as in 90d or 12h", text)
	}
	return d, nil
}

type credentialShowCmd struct {
	Vault string `required:"" placeholder:"VAULT" help:"The credential's vault."`
	Name  string `arg:"" help:"The credential's name."`
}

func (cmd *credentialShowCmd) Run(ctx context.Context, c *cli) error {
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	credential, err := api.Credential(ctx, team, cmd.Vault, cmd.Name)
	if err != nil {
		return err
	}
	rows := shown(credential)
	return c.emit(credential, func() error { return c.printRows(rows) })
}

// shown are the rows that show a credential.
func shown(c control.Credential) [][2]string {
	rules := make([]string, len(c.Inject))
	for i, rule := range c.Inject {
		rules[i] = rule.String()
	}
	rows := [][2]string{
		{"name", c.Name}, {"vault", c.Vault}, {"placeholder", "vault:" + c.Name}, {"service", c.Service}, {"hosts", strings.Join(c.Hosts, ", ")},
		{"auth", string(c.Auth)}, {"username", c.Username}, {"settings", settingsLine(c.Settings)}, {"inject", strings.Join(rules, "; ")}, {"stray", string(c.Stray)},
		{"from", lies(c)},
		{"version", strconv.FormatInt(c.Version, 10)}, {"rotated", stamp(c.RotatedAt)}, {"overlap", shownOverlap(c.Overlap)}, {"due", stampOf(c.RotateDue)},
		{"methods", orAny(c.Limits.Methods)}, {"paths", orAny(c.Limits.Paths)}, {"expires", stampOf(c.Limits.ExpiresAt)}, {"rate", c.Limits.Rate.String()},
	}
	budget := c.Limits.Budget.String()
	if budget != "" {
		budget = fmt.Sprintf("%s, %d allotted", budget, c.Spent)
	}
	rows = append(rows, [2]string{"budget", budget})
	approve := string(c.Limits.Approve)
	if approve != "" {
		approve = fmt.Sprintf("%s, within %s", approve, c.Limits.ApproveTimeout)
	}
	return append(rows, [2]string{"approve", approve})
}

// lies says where a secret lies, if that is not in the control plane.
func lies(c control.Credential) string {
	if c.From == nil {
		return ""
	}
	if c.FromVersion == "" {
		return c.From.String()
	}
	return c.From.String() + ", version " + c.FromVersion
}

func orAny(texts []string) string {
	if len(texts) == 0 {
		return "any"
	}
	return strings.Join(texts, ", ")
}
