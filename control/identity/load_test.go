package identity

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"sallyport/control"
	"sallyport/control/seal"
)

// values is a database's table of values.
type values struct {
	mu sync.Mutex
	m  map[string][]byte
}

func (v *values) GetMeta(_ context.Context, key string) ([]byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if value, ok := v.m[key]; ok {
		return value, nil
	}
	return nil, control.Errorf(control.CodeNotFound, "no value %q", key)
}

func (v *values) SetMetaIfAbsent(_ context.Context, key string, value []byte) ([]byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, ok := v.m[key]; !ok {
		v.m[key] = value
	}
	return v.m[key], nil
}

func (v *values) ReplaceMeta(_ context.Context, key string, old, value []byte, _ control.Event) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !bytes.Equal(v.m[key], old) {
		return control.Errorf(control.CodeConflict, "value %q was changed", key)
	}
	v.m[key] = value
	return nil
}

func TestReplicasShareOneCA(t *testing.T) {
	meta := &values{m: make(map[string][]byte)}
	kek, err := seal.OpenFileKEK(t.Context(), filepath.Join(t.TempDir(), "kek"), meta)
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	loaded := make([]*Authority, 8)
	for i := range loaded {
		group.Go(func() {
			var err error
			if loaded[i], err = Load(t.Context(), meta, kek, time.Now); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if t.Failed() {
		return
	}
	for _, a := range loaded {
		if !bytes.Equal(a.Certificate(), loaded[0].Certificate()) || !a.set.Load().active.key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(loaded[0].set.Load().active.key.Public()) {
			t.Fatal("two replicas have two CAs")
		}
	}
}

func TestStoredCAOpensOnlyAsItWas(t *testing.T) {
	meta := &values{m: make(map[string][]byte)}
	kek, err := seal.OpenFileKEK(t.Context(), filepath.Join(t.TempDir(), "kek"), meta)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Load(t.Context(), meta, kek, time.Now); err != nil {
		t.Fatal(err)
	}
	var stored sealedAuthority
	if err := json.Unmarshal(meta.m[metaKey], &stored); err != nil {
		t.Fatal(err)
	}
	otherCert, otherKey, err := generateAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for name, changed := range map[string]sealedAuthority{
		"another certificate": {sealedCA: sealedCA{Certificate: otherCert, KEK: stored.KEK, Key: stored.Key}},
		"a key in clear":      {sealedCA: sealedCA{Certificate: otherCert, KEK: stored.KEK, Key: otherKey}},
		"another key's name":  {sealedCA: sealedCA{Certificate: stored.Certificate, KEK: "other", Key: stored.Key}},
		"nothing":             {},
	} {
		if meta.m[metaKey], err = json.Marshal(changed); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(t.Context(), meta, kek, time.Now); err == nil {
			t.Errorf("%s: the CA is loaded", name)
		}
	}
}
