//go:build peers

package kek

import (
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sallyport/control"
	realvault "sallyport/control/controltest/vault"
	"sallyport/control/seal"
)

// least is the policy of docs/operating.md.
const least = `
path "transit/encrypt/kek" { capabilities = ["update"] }
path "transit/decrypt/kek" { capabilities = ["update"] }`

// transit starts a Vault with the engine and a key, and gives a file for the token that
// uses it, and what the key is called.
func transit(t *testing.T) (v *realvault.Server, tokenFile, name string) {
	t.Helper()
	v = realvault.Start(t)
	v.Do(t, "sys/mounts/transit", map[string]any{"type": "transit"})
	v.Do(t, "transit/keys/kek", nil)
	t.Setenv("VAULT_CACERT", v.CA)
	tokenFile = filepath.Join(t.TempDir(), "token")
	writeToken(t, tokenFile, v.Token(t, least, nil))
	return v, tokenFile, "vault:" + v.Address + "/transit/keys/kek?token-file=" + tokenFile
}

func writeToken(t *testing.T, file, token string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, name string) seal.Provider {
	t.Helper()
	p, err := Open(t.Context(), name, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestPeerTransitHoldsToPlaces: what was wrapped for one place is opened by Vault for no
// other, with every type of key that can say so; the others are refused at the start.
func TestPeerTransitHoldsToPlaces(t *testing.T) {
	v, tokenFile, _ := transit(t)
	writeToken(t, tokenFile, v.Token(t, `path "transit/+/+" { capabilities = ["update"] }`, nil))
	for name, create := range map[string]map[string]any{
		"aes256": {"type": "aes256-gcm96"}, "aes128": {"type": "aes128-gcm96"}, "chacha20": {"type": "chacha20-poly1305"},
		"derived": {"derived": true}, "convergent": {"derived": true, "convergent_encryption": true},
	} {
		v.Do(t, "transit/keys/"+name, create)
		p := open(t, "vault:"+v.Address+"/transit/keys/"+name+"?token-file="+tokenFile)
		key, here, elsewhere := []byte(strings.Repeat("k", 32)), []byte("here"), []byte("elsewhere")
		one, id, err := p.Wrap(t.Context(), key, here)
		if err != nil || id != "vault:transit/keys/"+name {
			t.Fatalf("%s: %q, %v", name, id, err)
		}
		other, _, err := p.Wrap(t.Context(), []byte(strings.Repeat("o", 32)), elsewhere)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := p.Unwrap(t.Context(), id, one, here); err != nil || string(got) != string(key) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		changed := []byte(string(one[:len(one)-8]) + "AAAAAAAA")
		for what, tc := range map[string]struct{ blob, aad []byte }{
			"a changed place": {one, elsewhere}, "a longer place": {one, []byte("heree")},
			"swapped": {other, here}, "changed": {changed, here}, "cut off": {one[:len(one)/2], here}, "a version that is not": {[]byte(strings.Replace(string(one), ":v1:", ":v9:", 1)), here},
			"no prefix": {[]byte("nothing"), here},
		} {
			if got, err := p.Unwrap(t.Context(), id, tc.blob, tc.aad); !errors.Is(err, seal.ErrClosed) {
				t.Errorf("%s, %s: %q, %v", name, what, got, err)
			}
		}
	}
	for _, kind := range []string{"rsa-2048", "ed25519"} {
		v.Do(t, "transit/keys/"+kind, map[string]any{"type": kind})
		if _, err := Open(t.Context(), "vault:"+v.Address+"/transit/keys/"+kind+"?token-file="+tokenFile, nil); err == nil || !strings.Contains(err.Error(), "transit answers 400 to encrypt: '[0].associated_data' provided for non-AEAD cipher suite "+kind) {
			t.Errorf("a key of %s: %v", kind, err)
		}
	}

	// Vault itself says no, whatever asks.
	sealed := v.Do(t, "transit/encrypt/aes256", map[string]any{"plaintext": "eA==", "associated_data": base64.StdEncoding.EncodeToString([]byte("here"))}).Data["ciphertext"].(string)
	if err := v.Refuses(t, "transit/decrypt/aes256", map[string]any{"ciphertext": sealed, "associated_data": base64.StdEncoding.EncodeToString([]byte("there"))}); !strings.Contains(err.Error(), "message authentication failed") {
		t.Error(err)
	}
}

// A key that is rotated there goes on; a version that is not to be used any more, and a
// key that is gone, are told from rows that were changed.
func TestPeerTransitRotates(t *testing.T) {
	v, _, name := transit(t)
	p := open(t, name)
	ring, err := seal.NewKeyring(p)
	if err != nil {
		t.Fatal(err)
	}
	s := seal.New(ring)
	defer s.Close()
	first, err := s.NewDataKey(t.Context(), here.Team, here.Vault)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := s.Seal(t.Context(), first, here, control.Secret("sk_live"))
	if err != nil {
		t.Fatal(err)
	}
	opens := func(key control.WrappedKey) error {
		cold := seal.New(ring)
		defer cold.Close()
		secret, err := cold.Open(t.Context(), key, here, sealed)
		if err == nil && string(secret) != "sk_live" {
			t.Errorf("opened %q", string(secret))
		}
		return err
	}
	v.Do(t, "transit/keys/kek/rotate", nil)
	if err := opens(first); err != nil {
		t.Errorf("after a rotation there: %v", err)
	}
	second, err := s.Rewrap(t.Context(), here.Team, here.Vault, first)
	if err != nil || !strings.HasPrefix(string(second.Blob), "vault:v2:") || second.KEK != first.KEK {
		t.Fatalf("wrapped anew: %s %s, %v", second.KEK, second.Blob, err)
	}
	v.Do(t, "transit/keys/kek/config", map[string]any{"min_decryption_version": 2})
	if err := opens(second); err != nil {
		t.Errorf("with the version that is left: %v", err)
	}
	unusable := func(err error, want string) {
		t.Helper()
		if control.CodeOf(err) != control.CodeUnavailable || errors.Is(err, seal.ErrClosed) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %v; want %q", err, want)
		}
	}
	unusable(opens(first), "too old")
	v.Do(t, "transit/keys/kek/config", map[string]any{"deletion_allowed": true})
	v.Delete(t, "transit/keys/kek")
	unusable(opens(second), "encryption key not found")
	v.Do(t, "transit/keys/kek", nil) // another key of that name
	if err := opens(second); !errors.Is(err, seal.ErrClosed) {
		t.Errorf("with another key of that name: %v", err)
	}
}

// What is wrong with Vault, the token or its policy is said at the start, in a line.
func TestPeerTransitIsRefused(t *testing.T) {
	v, tokenFile, name := transit(t)
	good, err := os.ReadFile(tokenFile)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(name, want string) {
		t.Helper()
		if _, err := Open(t.Context(), name, nil); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), strings.TrimSpace(string(good))) {
			t.Errorf("%s: %v; want %q", name, err, want)
		}
	}
	refused(strings.Replace(name, "keys/kek", "keys/kekk", 1), "transit answers 403 to encrypt: 1 error occurred: * permission denied")
	refused(strings.Replace(name, "/transit/", "/transit2/", 1), "transit answers 403 to encrypt")
	for policy, want := range map[string]string{
		strings.Split(least, "\n")[1]: "transit answers 403 to decrypt", strings.Split(least, "\n")[2]: "transit answers 403 to encrypt",
	} {
		writeToken(t, tokenFile, v.Token(t, policy, nil))
		refused(name, want)
	}
	writeToken(t, tokenFile, "hvs.nobody")
	refused(name, "transit answers 403 to encrypt: 2 errors occurred: * permission denied * invalid token")
	if slices.Contains(v.List(t, "transit/keys"), "kekk") {
		t.Error("a name that was mistyped made a key")
	}
	if err := os.Remove(tokenFile); err != nil {
		t.Fatal(err)
	}
	refused(name, "read the token")

	writeToken(t, tokenFile, strings.TrimSpace(string(good)))
	p := open(t, name)
	ring, err := seal.NewKeyring(p)
	if err != nil {
		t.Fatal(err)
	}
	s := seal.New(ring)
	defer s.Close()
	// A token that ended, and another in its file.
	v.Do(t, "auth/token/revoke", map[string]any{"token": strings.TrimSpace(string(good))})
	if _, err := s.NewDataKey(t.Context(), "t", "v"); control.CodeOf(err) != control.CodeUnavailable {
		t.Errorf("with a token that was revoked: %v", err)
	}
	writeToken(t, tokenFile, v.Token(t, least, nil))
	if _, err := s.NewDataKey(t.Context(), "t", "v"); err != nil {
		t.Errorf("with another token in the file: %v", err)
	}

	v.Seal(t)
	refused(name, "transit answers 503 to encrypt: Vault is sealed")
	if _, err := s.NewDataKey(t.Context(), "t", "v"); control.CodeOf(err) != control.CodeUnavailable || !strings.Contains(err.Error(), "503") {
		t.Errorf("sealed: %v", err)
	}
	v.Stop(t)
	refused(name, "connection refused")
	if _, err := s.NewDataKey(t.Context(), "t", "v"); control.CodeOf(err) != control.CodeUnavailable {
		t.Errorf("away: %v", err)
	}
	v.Run(t)
	v.Unseal(t)
	if _, err := s.NewDataKey(t.Context(), "t", "v"); err != nil {
		t.Errorf("when it is back: %v", err)
	}
	t.Setenv("VAULT_CACERT", "")
	refused(name, "certificate signed by unknown authority")
}
