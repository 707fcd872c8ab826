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
	ReplaceMeta(ctx context.Context, key string, old, value []byte) error // CodeConflict if it is not old
}

// KEK wraps the CA's key.
type KEK interface {
	Wrap(ctx context.Context, key, aad []byte) (blob []byte, id string, err error)
	Unwrap(ctx context.Context, id string, blob, aad []byte) (key []byte, err error)
}

// sealedAuthority is the CA at rest.
type sealedAuthority struct {
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
	var sealed sealedAuthority
	if err := json.Unmarshal(stored, &sealed); err != nil {
		return nil, fmt.Errorf("load the control CA: %w", err)
	}
	key, err := kek.Unwrap(ctx, sealed.KEK, sealed.Key, associatedData(sealed.Certificate))
	if err != nil {
		return nil, fmt.Errorf("open the control CA's key: %w", err)
	}
	defer clear(key)
	return newAuthority(sealed.Certificate, key, now)
}

// Rewrap puts the CA's key under kek.
func Rewrap(ctx context.Context, meta ChangingMeta, kek KEK) error {
	stored, err := meta.GetMeta(ctx, metaKey)
	if err != nil {
		return fmt.Errorf("load the control CA: %w", err)
	}
	var sealed sealedAuthority
	if err := json.Unmarshal(stored, &sealed); err != nil {
		return fmt.Errorf("load the control CA: %w", err)
	}
	key, err := kek.Unwrap(ctx, sealed.KEK, sealed.Key, associatedData(sealed.Certificate))
	if err != nil {
		return fmt.Errorf("open the control CA's key: %w", err)
	}
	defer clear(key)
	if sealed.Key, sealed.KEK, err = kek.Wrap(ctx, key, associatedData(sealed.Certificate)); err != nil {
		return fmt.Errorf("wrap the control CA's key: %w", err)
	}
	changed, err := json.Marshal(sealed)
	if err != nil {
		return err
	}
	return meta.ReplaceMeta(ctx, metaKey, stored, changed)
}

// create stores a new CA, unless another replica was faster: then it gives that one.
func create(ctx context.Context, meta Meta, kek KEK, now time.Time) ([]byte, error) {
	cert, key, err := generateAuthority(now)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	wrapped, id, err := kek.Wrap(ctx, key, associatedData(cert))
	if err != nil {
		return nil, fmt.Errorf("wrap its key: %w", err)
	}
	stored, err := json.Marshal(sealedAuthority{Certificate: cert, KEK: id, Key: wrapped})
	if err != nil {
		return nil, err
	}
	return meta.SetMetaIfAbsent(ctx, metaKey, stored)
}

func associatedData(cert []byte) []byte {
	return append([]byte("sallyport control CA key v1\x00"), cert...)
}
