// Package kek opens key-encryption keys by what the operator calls them:
//
//	file:PATH, PATH                                    32 bytes in a file
//	awskms:ARN                                         AWS KMS
//	gcpkms:projects/…/locations/…/keyRings/…/cryptoKeys/…   Google Cloud KMS
//	vault:https://HOST[:PORT]/MOUNT/keys/NAME          transit of HashiCorp Vault or OpenBao
//
// The far ones never hand out the key: data keys travel there, with the place
// where they belong as associated data.
package kek

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"sallyport/control/seal"
)

// patience bounds the first use of a far key.
const patience = 20 * time.Second

// Open opens the key that name says. It is an error unless the key can be used now
// and holds to associated data. meta is of the database that it is for.
func Open(ctx context.Context, name string, meta seal.Meta) (seal.Provider, error) {
	scheme, rest, _ := strings.Cut(name, ":")
	var p seal.Provider
	var err error
	switch scheme {
	case "awskms":
		p, err = newAWS(ctx, rest)
	case "gcpkms":
		p, err = newGCP(ctx, rest)
	case "vault":
		p, err = newVault(rest)
	default:
		// A far key's name that is mistyped must not make a new key in a file of that name.
		if !strings.ContainsAny(name, ":/") {
			return nil, fmt.Errorf("the key-encryption key %s: want file:PATH, awskms:ARN, gcpkms:projects/… or vault:https://…", name)
		}
		if scheme != "file" && scheme != name && !strings.Contains(scheme, "/") {
			return nil, fmt.Errorf("the key-encryption key %s: there are no keys of %s; want file:PATH, awskms:ARN, gcpkms:projects/… or vault:https://…", name, scheme)
		}
		return seal.OpenFile(ctx, Path(name), meta)
	}
	if err != nil {
		return nil, fmt.Errorf("the key-encryption key %s: %w", name, err)
	}
	if err := prove(ctx, p); err != nil {
		return nil, fmt.Errorf("try the key-encryption key %s: %w", name, errors.Join(err, closeProvider(p)))
	}
	return p, nil
}

// Path is the file that name says, or "" if it names a far key.
func Path(name string) string {
	for _, far := range []string{"awskms:", "gcpkms:", "vault:"} {
		if strings.HasPrefix(name, far) {
			return ""
		}
	}
	path := strings.TrimPrefix(name, "file:")
	if absolute, err := filepath.Abs(path); err == nil {
		return absolute
	}
	return path
}

// Ring opens the key that a database is sealed with, or is to be, and those that
// it was sealed with before. What it opened, stop closes.
func Ring(ctx context.Context, meta seal.Meta, current string, earlier ...string) (_ *seal.Keyring, stop func(), err error) {
	var opened []seal.Provider
	stop = func() {
		for _, p := range opened {
			closeProvider(p)
		}
	}
	defer func() {
		if err != nil {
			stop()
		}
	}()
	for _, name := range append([]string{current}, earlier...) {
		p, err := Open(ctx, name, meta)
		if err != nil {
			return nil, stop, err
		}
		opened = append(opened, p)
	}
	ring, err := seal.NewKeyring(opened[0], opened[1:]...)
	if err != nil {
		return nil, stop, err
	}
	return ring, stop, seal.CheckSentinel(ctx, meta, ring, current)
}

// prove uses the key once, and sees that what it wrapped does not open elsewhere:
// a server that knows nothing of associated data passes over it in silence.
func prove(ctx context.Context, p seal.Provider) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	want := make([]byte, 32)
	rand.Read(want) // never fails, since Go 1.24
	here, elsewhere := []byte("sallyport trial: here"), []byte("sallyport trial: elsewhere")
	blob, id, err := p.Wrap(ctx, want, here)
	if err != nil {
		return err
	}
	got, err := p.Unwrap(ctx, id, blob, here)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errors.New("another key came back than was wrapped")
	}
	got, err = p.Unwrap(ctx, id, blob, elsewhere)
	clear(got)
	switch {
	case err == nil:
		return errors.New("it does not hold to associated data, so a stolen row would open in another place: it needs a kind of key, or a server, that does")
	case !errors.Is(err, seal.ErrClosed):
		return err
	}
	return nil
}

// closer is a Provider that holds a connection.
type closer interface{ Close() error }

func closeProvider(p seal.Provider) error {
	if c, ok := p.(closer); ok {
		return c.Close()
	}
	return nil
}
