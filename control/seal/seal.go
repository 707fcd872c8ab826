// Package seal encrypts secrets at rest, in two layers:
//
//	key-encryption key ── wraps ──> data key, one a vault
//	data key ── HKDF-SHA256, salt of the record ──> key and commitment, one a version of a secret
//
// Both layers are one construction (box), and both authenticate where the thing
// belongs, so that a row moved elsewhere does not open. Deleting a vault's data
// key destroys its secrets.
package seal

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"sync"
	"time"

	"sallyport/control"
)

// KEK is a key-encryption key. What it wraps opens only with the same associated data.
type KEK interface {
	// Wrap encrypts a data key; id names the key-encryption key that did it.
	Wrap(ctx context.Context, key, aad []byte) (blob []byte, id string, err error)
	// Unwrap is the inverse. The caller wipes the key.
	Unwrap(ctx context.Context, id string, blob, aad []byte) (key []byte, err error)
}

const (
	keySize = 32
	// remember is how long a data key is kept in memory after it was unwrapped.
	remember = 5 * time.Minute
	// maxRemembered bounds how many are.
	maxRemembered = 4096
)

// Sealer seals and opens secrets. It is safe for concurrent use.
type Sealer struct {
	kek KEK

	mu     sync.Mutex
	closed bool
	keys   map[place]*dataKey
	// unwrapping is closed when the one who unwraps that key is done.
	unwrapping map[place]chan struct{}
}

// place is a data key by where it belongs and what its row holds, so that a row
// which was changed is unwrapped, and refused, however well the old one is known.
type place struct {
	team, vault, kek string
	version          int64
	blob             [sha256.Size]byte
}

type dataKey struct {
	key    []byte
	expiry *time.Timer
}

// New makes a Sealer. Close it to wipe the data keys that it remembers.
func New(kek KEK) *Sealer {
	return &Sealer{kek: kek, keys: make(map[place]*dataKey), unwrapping: make(map[place]chan struct{})}
}

// Close wipes every data key. The Sealer still works, and remembers none.
func (s *Sealer) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for p := range s.keys {
		s.forget(p)
	}
}

// NewDataKey makes the first data key of a vault. team and vault are ids.
func (s *Sealer) NewDataKey(ctx context.Context, team, vault string) (control.WrappedKey, error) {
	return s.NextDataKey(ctx, team, vault, 1)
}

// NextDataKey makes a version of the data key of a vault.
func (s *Sealer) NextDataKey(ctx context.Context, team, vault string, version int64) (control.WrappedKey, error) {
	key := make([]byte, keySize)
	rand.Read(key) // never fails, since Go 1.24
	defer clear(key)
	w := control.WrappedKey{Version: version}
	var err error
	if w.Blob, w.KEK, err = s.kek.Wrap(ctx, key, dataKeyAAD(team, vault, w.Version)); err != nil {
		return control.WrappedKey{}, fmt.Errorf("wrap the data key of vault %s: %w", vault, err)
	}
	return w, nil
}

// Rewrap wraps a vault's data key anew, under the key-encryption key of today.
func (s *Sealer) Rewrap(ctx context.Context, team, vault string, w control.WrappedKey) (control.WrappedKey, error) {
	aad := dataKeyAAD(team, vault, w.Version)
	key, err := s.kek.Unwrap(ctx, w.KEK, w.Blob, aad)
	if err != nil {
		return w, fmt.Errorf("unwrap the data key of vault %s: %w", vault, err)
	}
	defer clear(key)
	if w.Blob, w.KEK, err = s.kek.Wrap(ctx, key, aad); err != nil {
		return w, fmt.Errorf("wrap the data key of vault %s: %w", vault, err)
	}
	return w, nil
}

// Seal encrypts a secret to its identity under a vault's data key.
func (s *Sealer) Seal(ctx context.Context, key control.WrappedKey, id control.SecretIdentity, secret control.Secret) (control.SealedSecret, error) {
	var b box
	err := s.withKey(ctx, key, id, func(dataKey []byte) (err error) {
		b, err = seal(dataKey, secretAAD(id, key.Version), secret)
		return err
	})
	if err != nil {
		return control.SealedSecret{}, fmt.Errorf("seal credential %s version %d: %w", id.Credential, id.Version, err)
	}
	return control.SealedSecret{KeyVersion: key.Version, Salt: b.salt, Commitment: b.commitment, Ciphertext: b.ciphertext}, nil
}

// Open decrypts a secret, which the caller wipes.
func (s *Sealer) Open(ctx context.Context, key control.WrappedKey, id control.SecretIdentity, sealed control.SealedSecret) (control.Secret, error) {
	if sealed.KeyVersion != key.Version {
		return nil, fmt.Errorf("open credential %s version %d: it was sealed under version %d of the data key, not %d", id.Credential, id.Version, sealed.KeyVersion, key.Version)
	}
	var secret control.Secret
	err := s.withKey(ctx, key, id, func(dataKey []byte) (err error) {
		secret, err = open(dataKey, secretAAD(id, key.Version), box{sealed.Salt, sealed.Commitment, sealed.Ciphertext})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open credential %s version %d: %w", id.Credential, id.Version, err)
	}
	return secret, nil
}

// withKey calls use with the unwrapped data key, which stays whole meanwhile.
func (s *Sealer) withKey(ctx context.Context, w control.WrappedKey, id control.SecretIdentity, use func(key []byte) error) error {
	p := place{id.Team, id.Vault, w.KEK, w.Version, sha256.Sum256(w.Blob)}
	if done, err := s.tryRemembered(p, use); done {
		return err
	}
	// Who waits finds it remembered, most likely: a far key is asked once.
	leave, err := s.enter(ctx, p)
	if err != nil {
		return err
	}
	defer leave()
	if done, err := s.tryRemembered(p, use); done {
		return err
	}
	key, err := s.kek.Unwrap(ctx, w.KEK, w.Blob, dataKeyAAD(id.Team, id.Vault, w.Version))
	if err != nil {
		return fmt.Errorf("unwrap the data key of vault %s: %w", id.Vault, err)
	}
	if len(key) != keySize {
		clear(key)
		return fmt.Errorf("the data key of vault %s has %d bytes", id.Vault, len(key))
	}
	err = use(key)
	s.rememberKey(p, key)
	return err
}

// enter waits until nobody else unwraps the key of that place.
func (s *Sealer) enter(ctx context.Context, p place) (leave func(), err error) {
	for {
		s.mu.Lock()
		busy, found := s.unwrapping[p]
		if !found {
			mine := make(chan struct{})
			s.unwrapping[p] = mine
			s.mu.Unlock()
			return func() {
				s.mu.Lock()
				delete(s.unwrapping, p)
				s.mu.Unlock()
				close(mine)
			}, nil
		}
		s.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the data key of vault %s: %w", p.vault, ctx.Err())
		}
	}
}

func (s *Sealer) tryRemembered(p place, use func(key []byte) error) (done bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, found := s.keys[p]
	if !found {
		return false, nil
	}
	return true, use(k.key)
}

// rememberKey takes the key over, to keep or to wipe.
func (s *Sealer) rememberKey(p place, key []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, found := s.keys[p]; found || s.closed {
		clear(key)
		return
	}
	if len(s.keys) >= maxRemembered {
		for other := range s.keys {
			s.forget(other)
			break
		}
	}
	k := &dataKey{key: key}
	k.expiry = time.AfterFunc(remember, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.keys[p] == k {
			s.forget(p)
		}
	})
	s.keys[p] = k
}

// forget wipes one key. s.mu is held.
func (s *Sealer) forget(p place) {
	k := s.keys[p]
	k.expiry.Stop()
	clear(k.key)
	delete(s.keys, p)
}
