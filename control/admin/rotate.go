package admin

import (
	"context"
	"fmt"
	"time"

	"sallyport/control"
	"sallyport/control/exchange"
)

const (
	// maxWait bounds how long a rotation is waited for.
	maxWait = 2 * time.Minute
	// The database is asked who has acknowledged; at first often, since most
	// rotations are everywhere within milliseconds.
	firstPoll = 2 * time.Millisecond
	lastPoll  = 200 * time.Millisecond
)

type rotatePath struct {
	CredentialPath
	Wait string `query:"wait" maxLength:"16" doc:"Answer when every connected sidecar has it, or after this long, as in 10s"`
}

// newSecret is the body of a rotation.
type newSecret struct {
	Secret  secret `json:"secret"`
	Overlap string `json:"overlap,omitempty" maxLength:"16" doc:"How long requests that the service answers 401 to are sent once more with the version before, up to 24h, as in 10m; only of token and basic"`
}

// Wipe overwrites the secret.
func (b *newSecret) Wipe() { b.Secret.Wipe() }

func (s *Server) rotateCredential(ctx context.Context, in *rotatePath, body *newSecret) (*answer[control.Rotation], error) {
	defer body.Wipe()
	wait, err := parseWait(in.Wait)
	if err != nil {
		return nil, err
	}
	team := teamOf(ctx).ID
	vault, err := s.Store.Vault(ctx, team, in.Vault)
	if err != nil {
		return nil, err
	}
	c, err := s.Store.Credential(ctx, team, in.Vault, in.Credential)
	if err != nil {
		return nil, err
	}
	if c.From == nil { // else the store says what to do instead
		if err := s.Exchange.CheckSecret(c, body.Secret.Secret); err != nil {
			return nil, err
		}
	}
	overlap, err := parseOverlap(c, body.Overlap)
	if err != nil {
		return nil, err
	}
	detail := c.Vault + "/" + c.Name
	if overlap > 0 {
		detail += fmt.Sprintf(": version %d stays good for %s", c.Version, overlap)
	}
	var version, revision int64
	err = s.sealing(ctx, vault.ID, c.ID, c.Version+1, body.Secret.Secret, func(sealed control.SealedSecret) (err error) {
		// Two rotations at once: one of them is refused and can look at the other.
		version, revision, err = s.Store.RotateOverlapping(ctx, team, c.ID, c.Version, sealed, overlap, act(ctx, "credential.rotate", detail))
		return err
	})
	if err != nil {
		return nil, err
	}
	start := time.Now()
	rotation := control.Rotation{Version: version, Revision: revision, Warning: exchange.Weakness(c, body.Secret.Secret)}
	if overlap > 0 {
		until := start.Add(overlap).UTC().Truncate(time.Second)
		rotation.OverlapUntil = &until
	}
	return one(s.propagated(ctx, c.ID, rotation, start, wait))
}

func parseWait(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	wait, err := time.ParseDuration(text)
	if err != nil || wait < 0 || wait > maxWait {
		return 0, control.Errorf(control.CodeInvalid, "wait must be a duration from 0s to %s, as in 10s", maxWait)
	}
	return wait, nil
}

// propagated counts who has the rotation. It comes back when all that are
// connected have it, when wait is over, or when the caller has gone: the
// rotation stands in every case.
func (s *Server) propagated(ctx context.Context, credentialID string, r control.Rotation, start time.Time, wait time.Duration) (control.Rotation, error) {
	over := time.NewTimer(wait)
	defer over.Stop()
	for poll := firstPoll; ; poll = min(poll*2, lastPoll) {
		var err error
		r.Connected, r.Acknowledged, err = s.Store.Acknowledged(ctx, teamOf(ctx).ID, credentialID, r.Revision)
		if err != nil {
			return r, err
		}
		r.Milliseconds = time.Since(start).Milliseconds()
		if wait == 0 || r.Acknowledged >= r.Connected {
			return r, nil
		}
		select {
		case <-over.C:
			wait = 0 // count once more
		case <-time.After(poll):
		case <-ctx.Done():
			return r, nil
		}
	}
}
