// Package seal encrypts secrets at rest: a key-encryption key wraps a data key
// for each vault, and each version of a secret has a key of its own derived
// from that.
package seal

import (
	"context"
	"errors"

	"sallyport/control"
)

var errSoon = errors.New("not yet")

// KEK is a key-encryption key. What it wraps opens only with the same associated data.
type KEK interface {
	Wrap(ctx context.Context, key, aad []byte) (blob []byte, id string, err error)
	Unwrap(ctx context.Context, id string, blob, aad []byte) (key []byte, err error)
}

// FileKEK is a key-encryption key in a file.
type FileKEK struct{}

// ID names the key without telling anything of it.
func (k *FileKEK) ID() string { return "" }

func (k *FileKEK) Wrap(ctx context.Context, key, aad []byte) (blob []byte, id string, err error) {
	return nil, "", errSoon
}

func (k *FileKEK) Unwrap(ctx context.Context, id string, blob, aad []byte) (key []byte, err error) {
	return nil, errSoon
}

// Meta is where the sentinel is kept: store.Store.
type Meta interface {
	GetMeta(ctx context.Context, key string) ([]byte, error)
	SetMetaIfAbsent(ctx context.Context, key string, value []byte) ([]byte, error)
}

// OpenFileKEK is the start of a control plane: it reads the key at path, which must be the one
// that meta's database was sealed with. For a database never sealed before it makes the file if there is none.
func OpenFileKEK(ctx context.Context, path string, meta Meta) (*FileKEK, error) { return nil, errSoon }

// Sealer seals and opens secrets. Close wipes the data keys it remembers.
type Sealer struct{}

// New makes a Sealer.
func New(kek KEK) *Sealer { return nil }

// Close wipes every data key.
func (s *Sealer) Close() {}

// NewDataKey makes the first data key of a vault. team and vault are ids.
func (s *Sealer) NewDataKey(ctx context.Context, team, vault string) (control.WrappedKey, error) {
	return control.WrappedKey{}, errSoon
}

// Seal encrypts a secret to its identity.
func (s *Sealer) Seal(ctx context.Context, key control.WrappedKey, id control.SecretIdentity, secret control.Secret) (control.SealedSecret, error) {
	return control.SealedSecret{}, errSoon
}

// Open decrypts a secret, which the caller wipes.
func (s *Sealer) Open(ctx context.Context, key control.WrappedKey, id control.SecretIdentity, sealed control.SealedSecret) (control.Secret, error) {
	return nil, errSoon
}
