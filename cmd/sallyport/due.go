package main

import (
	"context"
	"time"

	"sallyport/control"
)

// dueFlag is when a credential is to be rotated again.
type dueFlag struct {
	RotateEvery string `placeholder:"DAYS" help:"After how many days somebody is to be reminded to rotate it, as in 90d; never for not at all."`
}

// every reads the flag.
func (f *dueFlag) every() (every control.Days, given bool, err error) {
	switch f.RotateEvery {
	case "", "never":
		return 0, f.RotateEvery != "", nil
	}
	if every, err = control.ParseDays(f.RotateEvery); err != nil {
		return 0, false, usagef("--rotate-every: %v", err)
	}
	return every, true, nil
}

func (cmd *credentialSetCmd) setRotateEvery(ctx context.Context, c *cli, every control.Days) error {
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	set, err := api.SetRotateEvery(ctx, team, cmd.Vault, cmd.Name, every)
	if err != nil {
		return err
	}
	if set.RotateDue == nil {
		return c.say(set, "credential %s: nobody is reminded to rotate it", set.Name)
	}
	return c.say(set, "credential %s is due to be rotated on %s", set.Name, stampOf(set.RotateDue))
}

// isDue reports whether a credential is due to be rotated.
func isDue(c control.Credential, now time.Time) bool {
	return c.RotateDue != nil && !now.Before(*c.RotateDue)
}
