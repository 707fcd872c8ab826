// Package rekey moves all that is sealed to another key-encryption key, and to new
// data keys, while the control plane serves. A rotation is a row; every process
// looks for one, and the one that holds the lock works on it:
//
//	data keys ─▶ (new data keys ─▶ secrets ─▶ old data keys go) ─▶ control CA ─▶ sentinel ─▶ finished
//
// Each step changes one row, if it still is what was read. So a process may end
// anywhere; what it leaves opens, and the next one goes on.
package rekey

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"sallyport/control"
	"sallyport/control/identity"
	"sallyport/control/seal"
	"sallyport/control/store"
)

// interval is how often a process looks for a rotation that another has left.
const interval = 10 * time.Second

// Rotator works on rotations.
type Rotator struct {
	store  *store.Store
	sealer *seal.Sealer
	kek    seal.Provider
	log    *slog.Logger
	kicked chan struct{}
}

// New makes a Rotator. sealer wraps under kek.
func New(s *store.Store, sealer *seal.Sealer, kek seal.Provider, log *slog.Logger) *Rotator {
	return &Rotator{store: s, sealer: sealer, kek: kek, log: log, kicked: make(chan struct{}, 1)}
}

// Start begins a rotation to the key of this process; Run does it.
func (r *Rotator) Start(ctx context.Context, newDataKeys bool, act control.Event) (control.KeyRotation, error) {
	rotation, err := r.store.StartKeyRotation(ctx, r.kek.ID(), newDataKeys, act)
	if err != nil {
		return rotation, err
	}
	select {
	case r.kicked <- struct{}{}:
	default:
	}
	return rotation, nil
}

// Status says which keys everything depends on.
func (r *Rotator) Status(ctx context.Context) (control.KeyStatus, error) {
	status := control.KeyStatus{KEK: r.kek.ID()}
	rotation, err := r.store.KeyRotation(ctx)
	if err == nil {
		status.Rotation = &rotation
	} else if control.CodeOf(err) != control.CodeNotFound {
		return status, err
	}
	status.DataKeys, err = r.store.KeyUse(ctx, status.Rotation)
	return status, err
}

// Run works on rotations until ctx ends. It returns nil.
func (r *Rotator) Run(ctx context.Context) error {
	for {
		if err := r.Pass(ctx); err != nil && ctx.Err() == nil {
			r.log.Error("the key rotation did not get on; it goes on later", "error", err)
		}
		timer := time.NewTimer(interval/2 + rand.N(interval))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-r.kicked:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// Pass does all that is left of the rotation, if there is one to this process's
// key and nobody else works on it.
func (r *Rotator) Pass(ctx context.Context) error {
	rotation, err := r.store.KeyRotation(ctx)
	if control.CodeOf(err) == control.CodeNotFound {
		return nil
	}
	if err != nil || rotation.FinishedAt != nil || rotation.KEK != r.kek.ID() {
		return err
	}
	release, held, err := r.store.HoldKeyRotation(ctx)
	defer release()
	if err != nil || !held {
		return err
	}
	// Read again: it may have been finished since.
	if rotation, err = r.store.KeyRotation(ctx); err != nil || rotation.FinishedAt != nil || rotation.KEK != r.kek.ID() {
		return err
	}
	r.log.Info("rotating keys", "kek", rotation.KEK, "new_data_keys", rotation.NewDataKeys)
	if err := r.store.EachTeam(ctx, func(team string) error { return r.team(ctx, team, rotation) }); err != nil {
		return err
	}
	if err := identity.Rewrap(ctx, r.store, r.kek); err != nil {
		return err
	}
	if err := seal.RewrapSentinel(ctx, r.store, r.kek); err != nil {
		return err
	}
	// A team that was made meanwhile has keys of the current one: the database takes no others.
	if err := r.store.FinishKeyRotation(ctx, rotation.ID, control.Event{Kind: "key.rotated", Actor: "system", Detail: rotation.KEK}); err != nil {
		return err
	}
	r.log.Info("keys are rotated", "kek", rotation.KEK)
	return nil
}

func (r *Rotator) team(ctx context.Context, team string, rotation control.KeyRotation) error {
	if rotation.NewDataKeys {
		if err := r.replaceKeys(ctx, team, rotation); err != nil {
			return err
		}
	}
	return each(ctx, func() ([]control.DataKey, error) { return r.store.KeysToRewrap(ctx, team, rotation) }, func(old control.DataKey) error {
		wrapped, err := r.sealer.Rewrap(ctx, team, old.Vault, old.WrappedKey)
		if err != nil {
			return err
		}
		return r.store.RewrapKey(ctx, team, rotation, old, wrapped)
	})
}

// replaceKeys gives each vault a new data key and seals its secrets under that.
func (r *Rotator) replaceKeys(ctx context.Context, team string, rotation control.KeyRotation) error {
	err := each(ctx, func() ([]control.DataKey, error) { return r.store.KeysToReplace(ctx, team, rotation) }, func(newest control.DataKey) error {
		key, err := r.sealer.NextDataKey(ctx, team, newest.Vault, newest.Version+1)
		if err != nil {
			return err
		}
		return r.store.AddDataKey(ctx, team, rotation, newest.Vault, key)
	})
	if err != nil {
		return err
	}
	err = each(ctx, func() ([]store.Reseal, error) { return r.store.SecretsToReseal(ctx, team) }, func(old store.Reseal) error {
		secret, err := r.sealer.Open(ctx, old.Key, old.Identity, old.Secret)
		if err != nil {
			return err
		}
		defer secret.Wipe()
		sealed, err := r.sealer.Seal(ctx, old.Next, old.Identity, secret)
		if err != nil {
			return err
		}
		return r.store.ResealSecret(ctx, old, sealed)
	})
	if err != nil {
		return err
	}
	return r.store.DeleteOldKeys(ctx, team)
}

// each does all that next gives, until it gives nothing more.
func each[T any](ctx context.Context, next func() ([]T, error), do func(T) error) error {
	for {
		batch, err := next()
		if err != nil || len(batch) == 0 {
			return err
		}
		for _, one := range batch {
			if err := do(one); err != nil {
				return fmt.Errorf("rotate keys: %w", err)
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}
