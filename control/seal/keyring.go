package seal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"sallyport/control"
)

// patience bounds the wait for a key-encryption key that is far away.
const patience = 5 * time.Second

// Provider is a KEK with a name: the id in all that it wraps.
type Provider interface {
	KEK
	ID() string
}

// Keyring wraps under one key-encryption key, and unwraps what that one or an
// earlier one wrapped, so that a database can move from one to the other.
type Keyring struct {
	current Provider
	all     []Provider // the current one first
}

// NewKeyring makes a Keyring.
func NewKeyring(current Provider, earlier ...Provider) (*Keyring, error) {
	k := &Keyring{current: current}
	for _, p := range append([]Provider{current}, earlier...) {
		if k.find(p.ID()) != nil {
			return nil, fmt.Errorf("the key-encryption key with id %s was given twice", p.ID())
		}
		k.all = append(k.all, p)
	}
	return k, nil
}

// ID names the current key.
func (k *Keyring) ID() string { return k.current.ID() }

// Has reports whether what the key with that id wrapped can be unwrapped.
func (k *Keyring) Has(id string) bool { return k.find(id) != nil }

func (k *Keyring) find(id string) Provider {
	if i := slices.IndexFunc(k.all, func(p Provider) bool { return p.ID() == id }); i >= 0 {
		return k.all[i]
	}
	return nil
}

// Wrap implements KEK, by the current key.
func (k *Keyring) Wrap(ctx context.Context, key, aad []byte) (blob []byte, id string, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	blob, id, err = k.current.Wrap(ctx, key, aad)
	return blob, id, away(k.current, err)
}

// Unwrap implements KEK, by the key that wrapped.
func (k *Keyring) Unwrap(ctx context.Context, id string, blob, aad []byte) (key []byte, err error) {
	p := k.find(id)
	if p == nil {
		return nil, fmt.Errorf("it was wrapped by the key-encryption key with id %s, and this one has id %s: give the other one too, with --kek-other", id, k.ID())
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	key, err = p.Unwrap(ctx, id, blob, aad)
	return key, away(p, err)
}

// away tells a key that can't be asked from one that has refused.
func away(p Provider, err error) error {
	if err == nil || errors.Is(err, ErrClosed) || control.CodeOf(err) != "" {
		return err
	}
	return fmt.Errorf("%w: %w", control.Errorf(control.CodeUnavailable, "the key-encryption key %s can't be used now: try again", p.ID()), err)
}
