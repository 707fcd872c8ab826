package seal

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"sallyport/control"
)

var identity = control.SecretIdentity{Team: "team", Vault: "vault", Credential: "credential", Version: 3, Field: control.FieldSecret}

func testKEK(t testing.TB, fill byte) *FileKEK {
	t.Helper()
	kek, err := newFileKEK(bytes.Repeat([]byte{fill}, keySize))
	if err != nil {
		t.Fatal(err)
	}
	return kek
}

// countingKEK counts what it unwraps and keeps what it gave out.
type countingKEK struct {
	KEK
	unwrapped atomic.Int64
	given     []byte
}

func (k *countingKEK) Unwrap(ctx context.Context, id string, blob, aad []byte) ([]byte, error) {
	k.unwrapped.Add(1)
	key, err := k.KEK.Unwrap(ctx, id, blob, aad)
	k.given = key
	return key, err
}

func newSealer(t testing.TB, kek KEK) (*Sealer, control.WrappedKey) {
	t.Helper()
	s := New(kek)
	t.Cleanup(s.Close)
	w, err := s.NewDataKey(context.Background(), identity.Team, identity.Vault)
	if err != nil {
		t.Fatal(err)
	}
	return s, w
}

func TestRoundTrip(t *testing.T) {
	s, w := newSealer(t, testKEK(t, 1))
	rapid.Check(t, func(rt *rapid.T) {
		want := rapid.SliceOfN(rapid.Byte(), 0, 4096).Draw(rt, "secret")
		id := identity
		id.Credential = rapid.String().Draw(rt, "credential")
		id.Version = rapid.Int64().Draw(rt, "version")
		sealed, err := s.Seal(context.Background(), w, id, want)
		if err != nil {
			rt.Fatal(err)
		}
		got, err := s.Open(context.Background(), w, id, sealed)
		if err != nil {
			rt.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			rt.Fatal("another secret came back")
		}
	})
}

func TestNothingIsSealedTwiceAlike(t *testing.T) {
	s, w := newSealer(t, testKEK(t, 1))
	seen := make(map[string]bool)
	for range 64 {
		sealed, err := s.Seal(t.Context(), w, identity, control.Secret("the same"))
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range [][]byte{sealed.Salt, sealed.Commitment, sealed.Ciphertext} {
			if seen[string(part)] {
				t.Fatal("a part of a sealed secret was seen before")
			}
			seen[string(part)] = true
		}
	}
}

// change draws a different value of one kind.
func change(rt *rapid.T, was string) string {
	return rapid.String().Filter(func(s string) bool { return s != was }).Draw(rt, "changed text")
}

// TestElsewhereDoesNotOpen moves a secret and its data key to any other place.
func TestElsewhereDoesNotOpen(t *testing.T) {
	s, w := newSealer(t, testKEK(t, 1))
	sealed, err := s.Seal(t.Context(), w, identity, control.Secret("secret"))
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		id, key, row := identity, w, sealed
		switch rapid.IntRange(0, 6).Draw(rt, "field") {
		case 0:
			id.Team = change(rt, id.Team)
		case 1:
			id.Vault = change(rt, id.Vault)
		case 2:
			id.Credential = change(rt, id.Credential)
		case 3:
			id.Field = change(rt, id.Field)
		case 4:
			id.Version += rapid.Int64().Filter(func(n int64) bool { return n != 0 }).Draw(rt, "versions on")
		case 5:
			key.Version++
			row.KeyVersion++
		case 6: // the boundary between two fields
			n := rapid.IntRange(0, len(id.Team)-1).Draw(rt, "boundary")
			id.Team, id.Vault = id.Team[:n], id.Team[n:]+id.Vault
		}
		if _, err := s.Open(context.Background(), key, id, row); err == nil {
			rt.Fatalf("it opened as %+v", id)
		}
	})
}

// TestChangedDoesNotOpen flips, cuts and lengthens every part of a row.
func TestChangedDoesNotOpen(t *testing.T) {
	s, w := newSealer(t, testKEK(t, 1))
	sealed, err := s.Seal(t.Context(), w, identity, control.Secret("secret"))
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string]func(*control.WrappedKey, *control.SealedSecret) *[]byte{
		"salt":       func(_ *control.WrappedKey, r *control.SealedSecret) *[]byte { return &r.Salt },
		"commitment": func(_ *control.WrappedKey, r *control.SealedSecret) *[]byte { return &r.Commitment },
		"ciphertext": func(_ *control.WrappedKey, r *control.SealedSecret) *[]byte { return &r.Ciphertext },
		"data key":   func(k *control.WrappedKey, _ *control.SealedSecret) *[]byte { return &k.Blob },
	}
	for name, part := range parts {
		t.Run(name, func(t *testing.T) {
			refuses := func(what string, edit func([]byte) []byte) {
				key, row := w, sealed
				p := part(&key, &row)
				*p = edit(slices.Clone(*p))
				if _, err := s.Open(t.Context(), key, identity, row); err == nil {
					t.Errorf("it opened with %s", what)
				}
			}
			for bit := range 8 * len(*part(&w, &sealed)) {
				refuses(fmt.Sprintf("bit %d flipped", bit), func(b []byte) []byte { b[bit/8] ^= 1 << (bit % 8); return b })
			}
			refuses("a byte fewer", func(b []byte) []byte { return b[:len(b)-1] })
			refuses("a byte more", func(b []byte) []byte { return append(b, 0) })
			refuses("nothing", func([]byte) []byte { return nil })
		})
	}
}

func TestOtherKeyDoesNotOpen(t *testing.T) {
	s, w := newSealer(t, testKEK(t, 1))
	sealed, err := s.Seal(t.Context(), w, identity, control.Secret("secret"))
	if err != nil {
		t.Fatal(err)
	}
	stranger, _ := newSealer(t, testKEK(t, 2))
	_, err = stranger.Open(t.Context(), w, identity, sealed)
	if err == nil || !strings.Contains(err.Error(), w.KEK) || !strings.Contains(err.Error(), testKEK(t, 2).ID()) {
		t.Errorf("with another key-encryption key: %v", err)
	}
	w.KEK = testKEK(t, 2).ID() // and if the row claims to be of that key
	if _, err := stranger.Open(t.Context(), w, identity, sealed); err == nil {
		t.Error("it opened under another key-encryption key")
	}
	other, err := s.NewDataKey(t.Context(), identity.Team, identity.Vault)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(t.Context(), other, identity, sealed); err == nil {
		t.Error("it opened under another data key of the same vault")
	}
}

// TestSwappedDataKeysDoNotOpen swaps the rows of two vaults whose keys are both
// remembered.
func TestSwappedDataKeysDoNotOpen(t *testing.T) {
	s, mine := newSealer(t, testKEK(t, 1))
	other := identity
	other.Vault = "other"
	theirs, err := s.NewDataKey(t.Context(), other.Team, other.Vault)
	if err != nil {
		t.Fatal(err)
	}
	for id, key := range map[control.SecretIdentity]control.WrappedKey{identity: mine, other: theirs} {
		if _, err := s.Seal(t.Context(), key, id, control.Secret("secret")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Seal(t.Context(), theirs, identity, control.Secret("secret")); err == nil {
		t.Error("a vault took the data key of another")
	}
}

func TestDataKeyIsForgottenAndWiped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kek := &countingKEK{KEK: testKEK(t, 1)}
		s, w := newSealer(t, kek)
		use := func(unwrapped int64) {
			t.Helper()
			if _, err := s.Seal(t.Context(), w, identity, control.Secret("secret")); err != nil {
				t.Fatal(err)
			}
			if n := kek.unwrapped.Load(); n != unwrapped {
				t.Fatalf("unwrapped %d times, want %d", n, unwrapped)
			}
		}
		use(1)
		use(1)
		first := kek.given
		synctest.Wait()
		time.Sleep(remember)
		synctest.Wait()
		if !bytes.Equal(first, make([]byte, keySize)) {
			t.Error("a data key was not wiped when its time was over")
		}
		use(2)
		s.Close()
		if !bytes.Equal(kek.given, make([]byte, keySize)) {
			t.Error("a data key was not wiped by Close")
		}
		use(3)
		if !bytes.Equal(kek.given, make([]byte, keySize)) {
			t.Error("a closed sealer remembers a data key")
		}
	})
}

func TestRememberedKeysAreBounded(t *testing.T) {
	s := New(testKEK(t, 1))
	defer s.Close()
	for i := range maxRemembered + 10 {
		s.rememberKey(place{vault: fmt.Sprint(i)}, make([]byte, keySize))
	}
	if n := len(s.keys); n != maxRemembered {
		t.Errorf("%d keys are remembered", n)
	}
}

func TestConcurrentUse(t *testing.T) {
	s, w := newSealer(t, testKEK(t, 1))
	var group sync.WaitGroup
	for i := range 16 {
		group.Go(func() {
			want := fmt.Sprint("secret ", i)
			sealed, err := s.Seal(t.Context(), w, identity, control.Secret(want))
			if err != nil {
				t.Error(err)
				return
			}
			got, err := s.Open(t.Context(), w, identity, sealed)
			if err != nil || string(got) != want {
				t.Errorf("opened %q, %v", string(got), err)
			}
			if i%4 == 0 {
				s.Close()
			}
		})
	}
	group.Wait()
}

// golden is a sealed secret as it lies in some database today. It must open for
// ever; when the format changes, a second file is added.
type golden struct {
	KEK        string `json:"kek"` // the file's bytes
	KEKID      string `json:"kek_id"`
	Team       string `json:"team"`
	Vault      string `json:"vault"`
	Credential string `json:"credential"`
	Version    int64  `json:"version"`
	Field      string `json:"field"`
	KeyVersion int64  `json:"key_version"`
	DataKey    string `json:"wrapped_data_key"`
	AAD        string `json:"associated_data"`
	Salt       string `json:"salt"`
	Commitment string `json:"commitment"`
	Ciphertext string `json:"ciphertext"`
	Secret     string `json:"secret"`
}

func TestGolden(t *testing.T) {
	text, err := os.ReadFile("testdata/v1.json")
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(text, &g); err != nil {
		t.Fatal(err)
	}
	bin := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	kek, err := newFileKEK(bin(g.KEK))
	if err != nil {
		t.Fatal(err)
	}
	if kek.ID() != g.KEKID {
		t.Errorf("the key's id is %s, want %s", kek.ID(), g.KEKID)
	}
	id := control.SecretIdentity{Team: g.Team, Vault: g.Vault, Credential: g.Credential, Version: g.Version, Field: g.Field}
	if got := hex.EncodeToString(secretAAD(id, g.KeyVersion)); got != g.AAD {
		t.Errorf("the associated data is\n%s, want\n%s", got, g.AAD)
	}
	s := New(kek)
	defer s.Close()
	w := control.WrappedKey{KEK: g.KEKID, Version: g.KeyVersion, Blob: bin(g.DataKey)}
	sealed := control.SealedSecret{KeyVersion: g.KeyVersion, Salt: bin(g.Salt), Commitment: bin(g.Commitment), Ciphertext: bin(g.Ciphertext)}
	secret, err := s.Open(t.Context(), w, id, sealed)
	if err != nil {
		t.Fatal(err)
	}
	if string(secret) != g.Secret {
		t.Errorf("the secret is %q, want %q", string(secret), g.Secret)
	}
	key, err := kek.Unwrap(t.Context(), g.KEKID, w.Blob, dataKeyAAD(g.Team, g.Vault, g.KeyVersion))
	if err != nil {
		t.Fatal(err)
	}
	again, err := sealSalted(key, secretAAD(id, g.KeyVersion), secret, sealed.Salt)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.commitment, sealed.Commitment) || !bytes.Equal(again.ciphertext, sealed.Ciphertext) {
		t.Error("the same secret, key and salt give another ciphertext")
	}
}
