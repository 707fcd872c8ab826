package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"sallyport/cmd/sallyport/client"
	"sallyport/control"
)

// keyPoll is how often a rotation is asked after.
const keyPoll = 500 * time.Millisecond

type keyCmd struct {
	Status keyStatusCmd `cmd:"" help:"Say which key-encryption keys everything depends on, and how far a rotation is."`
	Rotate keyRotateCmd `cmd:"" help:"Wrap every vault's data key under the control plane's key-encryption key."`
}

type keyStatusCmd struct{}

func (cmd *keyStatusCmd) Run(ctx context.Context, c *cli) error {
	api, err := c.connect()
	if err != nil {
		return err
	}
	status, err := api.Keys(ctx)
	if err != nil {
		return err
	}
	return c.emit(status, func() error {
		_, err := fmt.Fprint(c.stdout, keyText(status))
		return err
	})
}

func keyText(status control.KeyStatus) string {
	var b strings.Builder
	fmt.Fprintf(&b, "key-encryption key: %s\n", visible(status.KEK))
	for _, use := range status.DataKeys {
		fmt.Fprintf(&b, "data keys under %s: %d\n", visible(use.KEK), use.Count)
	}
	switch r := status.Rotation; {
	case r == nil:
		b.WriteString("never rotated\n")
	case r.FinishedAt != nil:
		fmt.Fprintf(&b, "rotated to %s: %s\n", visible(r.KEK), stamp(*r.FinishedAt))
	default:
		fmt.Fprintf(&b, "rotating to %s since %s: %d to do\n", visible(r.KEK), stamp(r.StartedAt), r.Remaining)
	}
	return b.String()
}

type keyRotateCmd struct {
	DataKeys bool `help:"Also make new data keys, and seal every version of every secret under them."`
	NoWait   bool `help:"Do not wait until it is done; it goes on by itself."`
}

func (cmd *keyRotateCmd) Run(ctx context.Context, c *cli) error {
	api, err := c.connect()
	if err != nil {
		return err
	}
	rotation, err := api.RotateKeys(ctx, cmd.DataKeys)
	if err != nil {
		return err
	}
	if !cmd.NoWait {
		if rotation, err = waitForKeys(ctx, api, rotation); err != nil {
			return err
		}
	}
	if rotation.FinishedAt == nil {
		return c.say(rotation, "rotating to %s; sallyport key status says how far it is", rotation.KEK)
	}
	return c.say(rotation, "everything is under %s; no other key-encryption key is needed", rotation.KEK)
}

// waitForKeys comes back when a rotation is done, or another has taken its place.
func waitForKeys(ctx context.Context, api *client.Client, rotation control.KeyRotation) (control.KeyRotation, error) {
	for {
		status, err := api.Keys(ctx)
		switch {
		case err != nil:
			return rotation, err
		case status.Rotation == nil || status.Rotation.ID != rotation.ID:
			return rotation, withHint(fmt.Errorf("another rotation has taken the place of this one"), "sallyport key status")
		case status.Rotation.FinishedAt != nil:
			return *status.Rotation, nil
		}
		select {
		case <-ctx.Done():
			return rotation, withHint(ctx.Err(), "the rotation goes on by itself; sallyport key status says how far it is")
		case <-time.After(keyPoll):
		}
	}
}
