package identity

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"sallyport/control"
)

// metaKey names the CA among the installation's values.
const metaKey = "control-ca"

// Meta keeps values of the installation.
type Meta interface {
	GetMeta(ctx context.Context, key string) ([]byte, error)
	SetMetaIfAbsent(ctx context.Context, key string, value []byte) ([]byte, error)
}

// ChangingMeta is a Meta whose values can be replaced.
type ChangingMeta interface {
	Meta
	// ReplaceMeta is CodeConflict if the value is not old. It records act.
	ReplaceMeta(ctx context.Context, key string, old, value []byte, act control.Event) error
}

// KEK wraps the CA's key.
type KEK interface {
	Wrap(ctx context.Context, key, aad []byte) (blob []byte, id string, err error)
	Unwrap(ctx context.Context, id string, blob, aad []byte) (key []byte, err error)
}

// sealedAuthority is the CA at rest, with the one that comes after or came before
// while one succeeds the other.
type sealedAuthority struct {
	sealedCA
	Next     *sealedCA  `json:"next,omitempty"`
	Previous *sealedCA  `json:"previous,omitempty"`
	Since    *time.Time `json:"since,omitempty"` // of the step that made one of these
}

type sealedCA struct {
	Certificate []byte `json:"certificate"` // DER
	KEK         string `json:"kek"`         // id of the key that wraps Key
	Key         []byte `json:"key"`         // PKCS #8, wrapped
}

// Load gives the installation's CA, which all replicas share; the first one
// makes it. Its key is stored only wrapped by kek, bound to its certificate.
func Load(ctx context.Context, meta Meta, kek KEK, now func() time.Time) (*Authority, error) {
	stored, err := meta.GetMeta(ctx, metaKey)
	if control.CodeOf(err) == control.CodeNotFound {
		stored, err = create(ctx, meta, kek, now())
	}
	if err != nil {
		return nil, fmt.Errorf("load the control CA: %w", err)
	}
	set, err := openRoots(ctx, kek, stored)
	if err != nil {
		return nil, err
	}
	a := &Authority{now: now}
	a.set.Store(set)
	return a, nil
}

func openRoots(ctx context.Context, kek KEK, stored []byte) (*roots, error) {
	sealed, err := parseSealed(stored)
	if err != nil {
		return nil, err
	}
	set := &roots{stored: stored}
	for _, one := range []struct {
		sealed *sealedCA
		into   **ca
	}{{&sealed.sealedCA, &set.active}, {sealed.Next, &set.next}, {sealed.Previous, &set.previous}} {
		if one.sealed == nil {
			continue
		}
		if *one.into, err = one.sealed.open(ctx, kek); err != nil {
			return nil, err
		}
	}
	return set, nil
}

func parseSealed(stored []byte) (*sealedAuthority, error) {
	var sealed sealedAuthority
	if err := json.Unmarshal(stored, &sealed); err != nil {
		return nil, fmt.Errorf("load the control CA: %w", err)
	}
	return &sealed, nil
}

func (s *sealedCA) open(ctx context.Context, kek KEK) (*ca, error) {
	key, err := kek.Unwrap(ctx, s.KEK, s.Key, associatedData(s.Certificate))
	if err != nil {
		return nil, fmt.Errorf("open the control CA's key: %w", err)
	}
	defer clear(key)
	return newCA(s.Certificate, key)
}

// sealNew makes a CA.
func sealNew(ctx context.Context, kek KEK, now time.Time) (*sealedCA, error) {
	cert, key, err := generateAuthority(now)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	s := &sealedCA{Certificate: cert}
	if s.Key, s.KEK, err = kek.Wrap(ctx, key, associatedData(cert)); err != nil {
		return nil, fmt.Errorf("wrap its key: %w", err)
	}
	return s, nil
}

// rewrap puts the key under kek.
func (s *sealedCA) rewrap(ctx context.Context, kek KEK) error {
	if s == nil {
		return nil
	}
	key, err := kek.Unwrap(ctx, s.KEK, s.Key, associatedData(s.Certificate))
	if err != nil {
		return fmt.Errorf("open the control CA's key: %w", err)
	}
	defer clear(key)
	if s.Key, s.KEK, err = kek.Wrap(ctx, key, associatedData(s.Certificate)); err != nil {
		return fmt.Errorf("wrap the control CA's key: %w", err)
	}
	return nil
}

// Rewrap puts the CA's keys under kek.
func Rewrap(ctx context.Context, meta ChangingMeta, kek KEK) error {
	stored, err := meta.GetMeta(ctx, metaKey)
	if err != nil {
		return fmt.Errorf("load the control CA: %w", err)
	}
	sealed, err := parseSealed(stored)
	if err != nil {
		return err
	}
	for _, s := range []*sealedCA{&sealed.sealedCA, sealed.Next, sealed.Previous} {
		if err := s.rewrap(ctx, kek); err != nil {
			return err
		}
	}
	changed, err := json.Marshal(sealed)
	if err != nil {
		return err
	}
	return meta.ReplaceMeta(ctx, metaKey, stored, changed, control.Event{Kind: "key.rewrap", Actor: "system", Detail: "the control CA, under " + sealed.KEK})
}

// create stores a new CA, unless another replica was faster: then it gives that one.
func create(ctx context.Context, meta Meta, kek KEK, now time.Time) ([]byte, error) {
	made, err := sealNew(ctx, kek, now)
	if err != nil {
		return nil, err
	}
	stored, err := json.Marshal(sealedAuthority{sealedCA: *made})
	if err != nil {
		return nil, err
	}
	return meta.SetMetaIfAbsent(ctx, metaKey, stored)
}

func associatedData(cert []byte) []byte {
	return append([]byte("sallyport control CA key v1\x00"), cert...)
}
