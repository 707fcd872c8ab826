package identity

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"sallyport/control"
)

const (
	// reloadInterval is how often a replica looks whether another has taken a step.
	reloadInterval = 10 * time.Second
	// spread is by when all have: no step is taken sooner after the last, forced or not.
	spread = time.Minute
	// allRenewed is by when every connected sandbox has renewed, and so has the roots of
	// the time.
	allRenewed = Lifetime + Backdate
	// allReturned is by when no certificate of before can be renewed any more.
	allReturned = allRenewed + RenewalGrace
)

// Succession replaces the CA without cutting anybody off:
//
//	stage ── sidecars get both roots as they renew ──▶ activate ── and certificates of
//	the new one; who was away all the time is shown the old one ──▶ retire
type Succession struct {
	authority *Authority
	meta      ChangingMeta
	kek       KEK
	log       *slog.Logger
}

// NewSuccession is of what Load gave with the same meta and kek.
func NewSuccession(a *Authority, meta ChangingMeta, kek KEK, log *slog.Logger) *Succession {
	return &Succession{authority: a, meta: meta, kek: kek, log: log}
}

// Run follows the steps that other replicas take, until ctx ends. It returns nil.
func (s *Succession) Run(ctx context.Context) error {
	ticker := time.NewTicker(reloadInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if err := s.Reload(ctx); err != nil && ctx.Err() == nil {
				s.log.Error("the control CA was not read again; the last one stays", "error", err)
			}
		}
	}
}

// Reload reads what is stored now.
func (s *Succession) Reload(ctx context.Context) error {
	stored, err := s.meta.GetMeta(ctx, metaKey)
	if err != nil {
		return fmt.Errorf("load the control CA: %w", err)
	}
	if bytes.Equal(stored, s.authority.set.Load().stored) {
		return nil
	}
	set, err := openRoots(ctx, s.kek, stored)
	if err != nil {
		return err
	}
	s.authority.set.Store(set)
	return nil
}

// Status says how far it is.
func (s *Succession) Status(ctx context.Context) (control.CAStatus, error) {
	if err := s.Reload(ctx); err != nil {
		return control.CAStatus{}, err
	}
	set := s.authority.set.Load()
	sealed, err := parseSealed(set.stored)
	if err != nil {
		return control.CAStatus{}, err
	}
	status := control.CAStatus{Active: *set.active.root(), Next: set.next.root(), Previous: set.previous.root(), Since: sealed.Since, Step: sealed.step()}
	if sealed.Since != nil {
		due := sealed.Since.Add(sealed.wait())
		status.DueAt = &due
	}
	return status, nil
}

func (c *ca) root() *control.CARoot {
	if c == nil {
		return nil
	}
	fingerprint := c.fingerprint()
	return &control.CARoot{Fingerprint: hex.EncodeToString(fingerprint[:]), ExpiresAt: c.cert.NotAfter}
}

// step is the one that comes next.
func (s *sealedAuthority) step() string {
	switch {
	case s.Next != nil:
		return control.CAActivate
	case s.Previous != nil:
		return control.CARetire
	}
	return control.CAStage
}

// wait is how long after the last step the next one cuts nobody off.
func (s *sealedAuthority) wait() time.Duration {
	switch s.step() {
	case control.CAActivate:
		return allRenewed
	case control.CARetire:
		return allReturned
	}
	return 0
}

// Take takes a step, which must be the next, and records act. With force it does
// not wait for sidecars.
func (s *Succession) Take(ctx context.Context, step string, force bool, act control.Event) (control.CAStatus, error) {
	stored, err := s.meta.GetMeta(ctx, metaKey)
	if err != nil {
		return control.CAStatus{}, fmt.Errorf("load the control CA: %w", err)
	}
	sealed, err := parseSealed(stored)
	if err != nil {
		return control.CAStatus{}, err
	}
	now := s.authority.now().UTC()
	if err := sealed.mayTake(step, force, now); err != nil {
		return control.CAStatus{}, err
	}
	switch step {
	case control.CAStage:
		if sealed.Next, err = sealNew(ctx, s.kek, now); err != nil {
			return control.CAStatus{}, err
		}
		sealed.Since = &now
	case control.CAActivate:
		previous := sealed.sealedCA
		sealed.sealedCA, sealed.Next, sealed.Previous, sealed.Since = *sealed.Next, nil, &previous, &now
	case control.CARetire:
		sealed.Previous, sealed.Since = nil, nil
	}
	changed, err := json.Marshal(sealed)
	if err != nil {
		return control.CAStatus{}, err
	}
	if err := s.meta.ReplaceMeta(ctx, metaKey, stored, changed, act); err != nil {
		return control.CAStatus{}, err
	}
	s.log.Info("the control CA is replaced", "step", step)
	return s.Status(ctx)
}

func (s *sealedAuthority) mayTake(step string, force bool, now time.Time) error {
	if next := s.step(); step != next {
		return control.Errorf(control.CodeConflict, "the next step is to %s, not to %s", next, step)
	}
	if s.Since == nil {
		return nil
	}
	if due := s.Since.Add(spread); now.Before(due) {
		return control.Errorf(control.CodeConflict, "the step before was just taken: wait until every replica knows of it, at %s", due.Format(time.RFC3339))
	}
	if due := s.Since.Add(s.wait()); !force && now.Before(due) {
		return control.Errorf(control.CodeConflict, "sidecars that need the other root may be left until %s: wait, or force it and cut those off", due.Format(time.RFC3339))
	}
	return nil
}
