package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"sallyport/control/api"
)

func TestMaterialSealedToOneKeyCredentialAndVersion(t *testing.T) {
	key, err := api.GenerateSealKey()
	if err != nil {
		t.Fatal(err)
	}
	other, err := api.GenerateSealKey()
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := api.SealMaterial(key.PublicKey().Bytes(), "cred", 7, api.Material{Username: "bob", Token: []byte("canary-token")})
	if err != nil {
		t.Fatal(err)
	}
	restored, err := api.ParseSealKey(mustBytes(t, key.Bytes))
	if err != nil {
		t.Fatal(err)
	}
	got, err := api.OpenMaterial(restored, "cred", 7, sealed)
	if err != nil || got.Username != "bob" || string(got.Token) != "canary-token" {
		t.Fatalf("OpenMaterial: %v", err)
	}
	for name, open := range map[string]func() (api.Material, error){
		"another key":        func() (api.Material, error) { return api.OpenMaterial(other, "cred", 7, sealed) },
		"another credential": func() (api.Material, error) { return api.OpenMaterial(key, "other", 7, sealed) },
		"another version":    func() (api.Material, error) { return api.OpenMaterial(key, "cred", 8, sealed) },
		"a cut text":         func() (api.Material, error) { return api.OpenMaterial(key, "cred", 7, sealed[:len(sealed)-1]) },
		"no text":            func() (api.Material, error) { return api.OpenMaterial(key, "cred", 7, nil) },
	} {
		if _, err := open(); err == nil {
			t.Errorf("%s opens the material", name)
		}
	}
}

func TestMaterialNeverShown(t *testing.T) {
	m := api.Material{Username: "canary-user", Token: []byte("canary-token")}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+"\n", m)
		fmt.Fprintf(&out, verb+"\n", &m)
		fmt.Fprintf(&out, verb+"\n", struct{ M api.Material }{m})
	}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "m", m, "p", &m)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "m", m, "p", &m)
	if err := json.NewEncoder(&out).Encode(map[string]any{"m": m, "p": &m}); err != nil {
		t.Fatal(err)
	}
	if s := out.String(); strings.Contains(s, "canary") || strings.Contains(s, fmt.Sprintf("%x", "canary")) || strings.Contains(s, "[99 97") {
		t.Errorf("material is shown:\n%s", s)
	}
	m.Wipe()
	if m.Token != nil {
		t.Error("Wipe keeps the token")
	}
}

func mustBytes(t *testing.T, f func() ([]byte, error)) []byte {
	t.Helper()
	b, err := f()
	if err != nil {
		t.Fatal(err)
	}
	return b
}
