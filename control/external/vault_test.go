package external

import (
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"sallyport/control"
	"sallyport/control/exchange"
	"sallyport/control/external/externaltest"
)

const opening = "hvs.canary-token"

// serve gives the address of a store, and a client that trusts it.
func serve(t *testing.T, store http.Handler) (address string, client *http.Client) {
	t.Helper()
	server := httptest.NewTLSServer(store)
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return server.URL, exchange.NewClient(exchange.Reach{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Roots: roots})
}

// read is what a source has at a place, and the error as it is told.
func read(t *testing.T, p Provider, s control.Source, secret, place string) (value, version string, err error) {
	t.Helper()
	at, err := control.ParsePlace(place)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.CheckPlace(s, at); err != nil {
		return "", "", err
	}
	document, err := p.Read(t.Context(), s, control.Secret(secret), at)
	if err != nil {
		return "", "", about(s, err)
	}
	defer document.Wipe()
	picked, err := document.pick(at)
	if err != nil {
		return "", "", about(s, err)
	}
	return string(picked), document.Version, nil
}

func source(kind string, settings control.Settings) control.Source {
	return control.Source{ID: "id", Vault: "payments", Name: "s", Kind: kind, Settings: settings, Version: 1}
}

func TestVault(t *testing.T) {
	v := externaltest.NewFakeVault()
	v.Namespace = "team/a"
	address, client := serve(t, v)
	v.Allow(opening, "kv/data/", "kv1/", "database/")
	v.Put("kv/stripe", map[string]any{"api_key": "old"})
	v.Put("kv/stripe", map[string]any{"api_key": "canary-key", "id": "a", "n": 7, "deep": map[string]any{"x": "y"}})
	v.Put("kv/gone", map[string]any{"api_key": "old"})
	v.Put("kv/gone", nil)
	v.Put("kv1/stripe", map[string]any{"data": "canary-1", "metadata": "x"})
	p := newVault(client)
	two := source("vault", control.Settings{"address": address, "namespace": "team/a"})
	one := source("vault", control.Settings{"address": address + "/", "namespace": "team/a", "kv": "1"})
	for place, want := range map[string]string{
		"s:kv/data/stripe#api_key":        "canary-key",
		"s:kv/data/stripe#n":              "7",
		"s:kv/data/stripe#key=api_key,id": `{"id":"a","key":"canary-key"}`,
		"s:kv/data/stripe#only=api_key":   `{"only":"canary-key"}`,
		"s:kv/data/stripe":                `{"api_key":"canary-key","deep":{"x":"y"},"id":"a","n":7}`,
	} {
		if got, version, err := read(t, p, two, opening, place); err != nil || got != want || version != "2" {
			t.Errorf("%s: %q, version %q, %v", place, got, version, err)
		}
	}
	if got, version, err := read(t, p, one, opening, "s:kv1/stripe#data"); err != nil || got != "canary-1" || version != "" {
		t.Errorf("version 1: %q, version %q, %v", got, version, err)
	}
	elsewhere := source("vault", control.Settings{"address": address, "namespace": "team/b"})
	for name, tc := range map[string]struct {
		s             control.Source
		secret, place string
		want          string
	}{
		"no such path":   {two, opening, "s:kv/data/none#api_key", "has nothing at kv/data/none"},
		"deleted":        {two, opening, "s:kv/data/gone#api_key", "has nothing at kv/data/gone, or what was there is deleted"},
		"no such field":  {two, opening, "s:kv/data/stripe#apikey", `has no text "apikey"`},
		"no text":        {two, opening, "s:kv/data/stripe#deep", `has no text "deep"`},
		"another token":  {two, "hvs.canary-other", "s:kv/data/stripe#api_key", "answers 403"},
		"another path":   {two, opening, "s:sys/data/x#a", "answers 403"},
		"no namespace":   {source("vault", control.Settings{"address": address}), opening, "s:kv/data/stripe#api_key", "answers 403"},
		"another one":    {elsewhere, opening, "s:kv/data/stripe#api_key", "answers 403"},
		"a lease":        {one, opening, "s:database/creds/x#password", "end with a lease"},
		"version 1 as 2": {two, opening, "s:kv1/data/stripe#data", "has nothing at kv1/data/stripe"},
		"no data":        {two, opening, "s:kv/stripe#api_key", "/data/ stands after the mount"},
		"no mount":       {one, opening, "s:stripe#api_key", "the engine's mount"},
	} {
		if got, _, err := read(t, p, tc.s, tc.secret, tc.place); err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %q, %v; want an error with %q", name, got, err, tc.want)
		}
	}
}

// A role's token serves until it is refused; then the role logs in again, once.
func TestVaultAppRole(t *testing.T) {
	v := externaltest.NewFakeVault()
	address, client := serve(t, v)
	v.Put("kv/stripe", map[string]any{"api_key": "canary-key"})
	v.Role("role", "canary-secret-id")
	p := newVault(client)
	s := source("vault", control.Settings{"address": address, "role_id": "role"})
	ask := func(secret string) error {
		t.Helper()
		got, _, err := read(t, p, s, secret, "s:kv/data/stripe#api_key")
		if err == nil && got != "canary-key" {
			t.Errorf("got %q", got)
		}
		return err
	}
	for range 3 {
		if err := ask("canary-secret-id"); err != nil {
			t.Fatal(err)
		}
	}
	if n := v.Logins(); n != 1 {
		t.Errorf("%d logins for three readings", n)
	}
	v.Revoke()
	if err := ask("canary-secret-id"); err != nil || v.Logins() != 2 {
		t.Errorf("after its token was revoked: %v, %d logins", err, v.Logins())
	}
	if _, _, err := read(t, p, s, "canary-secret-id", "s:other/data/x#a"); err == nil || !strings.Contains(err.Error(), "answers 403") || v.Logins() != 3 {
		t.Errorf("what it may not read: %v, %d logins", err, v.Logins())
	}
	s.Version++ // another secret id: the token of the old is not used any more
	if err := ask("canary-wrong"); err == nil || !strings.Contains(err.Error(), "answers 400 to the login") || strings.Contains(err.Error(), "canary") {
		t.Errorf("with the wrong secret id: %v", err)
	}
}

// A store that is somebody's trap gets the token it was meant for and nothing else, is
// followed nowhere, and what it writes is told to nobody.
func TestVaultIsHostile(t *testing.T) {
	t.Setenv("VAULT_TOKEN", "hvs.canary-operator")
	t.Setenv("BAO_TOKEN", "hvs.canary-operator")
	t.Setenv("VAULT_NAMESPACE", "canary-operator")
	trap := externaltest.NewFakeVault()
	trapAddress, _ := serve(t, trap)
	v := externaltest.NewFakeVault()
	address, client := serve(t, v)
	p := newVault(client)
	answers := map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"an echo": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(400)
			io.WriteString(w, `{"errors": ["bad token `+r.Header.Get("X-Vault-Token")+`"]}`)
		}, "answers 400"},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, trapAddress+r.URL.Path, http.StatusTemporaryRedirect)
		}, "the source payments/s"},
		"no JSON": {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"canary": `) }, "does not answer as it should"},
		"a number": {func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, `{"data": {"data": {"api_key": "k"}, "metadata": {"version": 1e999}}}`)
		}, "no version 2"},
		"an endless answer": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, strings.Repeat(" ", 1<<16)); err != nil {
					return
				}
			}
		}, "does not answer as it should"},
		"sealed": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(503)
			io.WriteString(w, `{"errors": ["Vault is sealed"]}`)
		}, "answers 503"},
	}
	for _, settings := range []control.Settings{{"address": address}, {"address": address, "role_id": "role"}} {
		for name, tc := range answers {
			v.Answer(func(w http.ResponseWriter, r *http.Request) {
				for _, values := range r.Header {
					if strings.Contains(strings.Join(values, " "), "canary-operator") {
						t.Errorf("%s: the operator's own went to a team's source: %v", name, r.Header)
					}
				}
				tc.answer(w, r)
			})
			_, _, err := read(t, p, source("vault", settings), opening, "s:kv/data/stripe#api_key")
			if err == nil || strings.Contains(err.Error(), "canary") || settings["role_id"] == "" && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if trap.Asked() > 0 {
		t.Error("a redirect was followed")
	}
	v.Answer(nil)

	// Addresses that only this machine gets to.
	guarded := newVault(exchange.NewClient(exchange.Reach{}))
	before := v.Asked()
	for _, at := range []string{address, strings.Replace(address, "127.0.0.1", "[::ffff:127.0.0.1]", 1), strings.Replace(address, "127.0.0.1", "localhost", 1), "https://169.254.169.254"} {
		_, _, err := read(t, guarded, source("vault", control.Settings{"address": at}), opening, "s:kv/data/stripe#api_key")
		if err == nil || !strings.Contains(err.Error(), "not a public one") {
			t.Errorf("%s: %v", at, err)
		}
	}
	if v.Asked() != before {
		t.Error("a private address was reached")
	}
}

// TestVaultKeepsItsToken: the token that opens a source is for no credential, though every
// token of a Vault may look itself up.
func TestVaultKeepsItsToken(t *testing.T) {
	v := externaltest.NewFakeVault()
	address, client := serve(t, v)
	p := newVault(client)
	v.Answer(func(w http.ResponseWriter, r *http.Request) {
		token := r.Header.Get("X-Vault-Token")
		switch r.URL.Path {
		case "/v1/auth/approle/login":
			io.WriteString(w, `{"auth": {"client_token": "hvs.canary-login", "lease_duration": 3600}}`)
		case "/v1/nested/lookup-self":
			io.WriteString(w, `{"data": {"token": {"id": ["`+token+`"]}}}`)
		default:
			io.WriteString(w, `{"data": {"accessor": "a", "id": "`+token+`", "path": "auth/token/create", "data": {"id": "`+token+`"}, "metadata": {"version": 1}}}`)
		}
	})
	for _, settings := range []control.Settings{{"kv": "1"}, {"kv": "1", "role_id": "role"}, {}} {
		settings["address"] = address
		for _, place := range []string{"s:auth/token/lookup-self#id", "s:auth/token/lookup-self", "s:ns/auth/token/data/lookup-self#key=id", "s:nested/lookup-self"} {
			got, _, err := read(t, p, source("vault", settings), opening, place)
			if strings.Contains(got, "canary") || err == nil || strings.Contains(err.Error(), "canary") {
				t.Errorf("%v %s: %q, %v", settings, place, got, err)
			}
		}
	}
}

func TestSourceSettings(t *testing.T) {
	x := New(nil, nil, nil, exchange.NewClient(exchange.Reach{}), nil)
	defer x.Close()
	for want, s := range map[string]control.Source{
		"there are no sources of kind":  source("gpg", nil),
		"needs the setting address":     source("vault", nil),
		"it is a URL as https://HOST":   source("vault", control.Settings{"address": "http://vault.example.com"}),
		"has no setting \"token\"":      source("vault", control.Settings{"address": "https://vault.example.com", "token": "t"}),
		"without a path":                source("vault", control.Settings{"address": "https://vault.example.com/v1/sys"}),
		"it is a URL as":                source("vault", control.Settings{"address": "unix:///run/vault.sock"}),
		"it is 1 or 2":                  source("vault", control.Settings{"address": "https://vault.example.com", "kv": "3"}),
		"the setting approle_mount: it": source("vault", control.Settings{"address": "https://vault.example.com", "role_id": "r", "approle_mount": "../sys"}),
		"the setting namespace: it":     source("vault", control.Settings{"address": "https://vault.example.com", "namespace": "a b"}),
		"the setting prefix: the place": source("vault", control.Settings{"address": "https://vault.example.com", "prefix": "kv/../x"}),
	} {
		if err := x.Check(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want an error with %q", s.Settings, err, want)
		}
	}
	s := source("vault", control.Settings{"address": "https://vault.example.com", "prefix": "kv/data/agents"})
	if err := x.Check(s); err != nil {
		t.Error(err)
	}
	for place, want := range map[string]bool{"s:kv/data/agents/a": true, "s:kv/data/agents": false, "s:kv/data/agents-too/a": false, "s:kv/data/others": false} {
		at, err := control.ParsePlace(place)
		if err != nil {
			t.Fatal(err)
		}
		if err := x.CheckPlace(s, at); (err == nil) != want {
			t.Errorf("%s: %v", place, err)
		}
	}
	for _, secret := range []string{"", "a\r\nX-Evil: b", "a\x00"} {
		if err := x.CheckSecret(s, control.Secret(secret)); err == nil {
			t.Errorf("%q opens a source", secret)
		}
	}
}
