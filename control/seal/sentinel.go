package seal

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"sallyport/control"
)

// Meta keeps the sentinel: store.Store does.
type Meta interface {
	GetMeta(ctx context.Context, key string) ([]byte, error) // CodeNotFound if it was never set
	SetMetaIfAbsent(ctx context.Context, key string, value []byte) ([]byte, error)
}

// ChangingMeta is a Meta whose values can be replaced.
type ChangingMeta interface {
	Meta
	// ReplaceMeta is CodeConflict if the value is not old. It records act.
	ReplaceMeta(ctx context.Context, key string, old, value []byte, act control.Event) error
}

// sentinelKey holds a data key of nobody: ID, NUL, wrapped bytes.
const sentinelKey = "kek-sentinel"

var sentinelAAD = dataKeyAAD("", "", 0)

// CheckSentinel reports whether meta's database was sealed with kek, and claims
// a database that was never sealed for it. name tells the user which key is meant.
func CheckSentinel(ctx context.Context, meta Meta, kek KEK, name string) error {
	value, err := meta.GetMeta(ctx, sentinelKey)
	if control.CodeOf(err) == control.CodeNotFound {
		value, err = newSentinel(ctx, meta, kek)
	}
	if err != nil {
		return fmt.Errorf("read the sentinel of the key-encryption key: %w", err)
	}
	want, blob, found := bytes.Cut(value, []byte{0})
	if !found {
		return errors.New("the sentinel of the key-encryption key is damaged in the database: restore that from your backup")
	}
	key, err := kek.Unwrap(ctx, string(want), blob, sentinelAAD)
	clear(key)
	if err == nil || control.CodeOf(err) == control.CodeUnavailable {
		return err
	}
	id := "unknown"
	if k, named := kek.(interface{ ID() string }); named {
		id = k.ID()
	}
	return fmt.Errorf("the key-encryption key at %s is not the one this database was sealed with (id %s, want %s): give the right one with --kek: %w", name, id, want, err)
}

// RewrapSentinel puts the sentinel, and so the whole database, under kek. What kek
// can't unwrap it leaves alone.
func RewrapSentinel(ctx context.Context, meta ChangingMeta, kek Provider) error {
	value, err := meta.GetMeta(ctx, sentinelKey)
	if err != nil {
		return fmt.Errorf("read the sentinel of the key-encryption key: %w", err)
	}
	id, blob, _ := bytes.Cut(value, []byte{0})
	key, err := kek.Unwrap(ctx, string(id), blob, sentinelAAD)
	if err != nil {
		return fmt.Errorf("unwrap the sentinel of the key-encryption key: %w", err)
	}
	defer clear(key)
	blob, newID, err := kek.Wrap(ctx, key, sentinelAAD)
	if err != nil {
		return fmt.Errorf("wrap the sentinel of the key-encryption key: %w", err)
	}
	return meta.ReplaceMeta(ctx, sentinelKey, value, append(append([]byte(newID), 0), blob...),
		control.Event{Kind: "key.rewrap", Actor: "system", Detail: "the sentinel, under " + newID})
}

// newSentinel sets the sentinel and gives the one that is set, whoever was first.
func newSentinel(ctx context.Context, meta Meta, kek KEK) ([]byte, error) {
	key := make([]byte, keySize)
	rand.Read(key) // never fails, since Go 1.24
	defer clear(key)
	blob, id, err := kek.Wrap(ctx, key, sentinelAAD)
	if err != nil {
		return nil, err
	}
	return meta.SetMetaIfAbsent(ctx, sentinelKey, append(append([]byte(id), 0), blob...))
}

// sealedWith gives the id of the key that meta's database was sealed with, "" if none was.
func sealedWith(ctx context.Context, meta Meta) (string, error) {
	value, err := meta.GetMeta(ctx, sentinelKey)
	if control.CodeOf(err) == control.CodeNotFound {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the sentinel of the key-encryption key: %w", err)
	}
	id, _, _ := bytes.Cut(value, []byte{0})
	return string(id), nil
}
