//go:build peers

package external

import (
	"maps"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sallyport/control"
	realvault "sallyport/control/controltest/vault"
	"sallyport/control/exchange"
)

// reaching is the client of a control plane whose operator trusts the Vault's authority.
func reaching(v *realvault.Server) *http.Client {
	return exchange.NewClient(exchange.Reach{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}, Roots: v.Roots})
}

// agents is the policy of docs/external.md.
const agents = `path "kv/data/agents/*" { capabilities = ["read"] }`

// asked is a source as a test reads from it.
type asked struct {
	p      Provider
	s      control.Source
	secret string
}

func ask(v *realvault.Server, secret string, settings control.Settings) asked {
	all := control.Settings{"address": v.Address}
	maps.Copy(all, settings)
	return asked{newVault(reaching(v)), source("vault", all), secret}
}

// gives fails unless what lies at place is this.
func (a asked) gives(t *testing.T, place, want, wantVersion string) {
	t.Helper()
	got, version, err := read(t, a.p, a.s, a.secret, place)
	if err != nil || got != want || version != wantVersion {
		t.Errorf("%s: %q, version %q, %v; want %q, version %q", place, got, version, err, want, wantVersion)
	}
}

// fails fails unless the reading does, with these words and nothing that is secret.
func (a asked) fails(t *testing.T, place, want string) {
	t.Helper()
	got, _, err := read(t, a.p, a.s, a.secret, place)
	if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), a.secret) {
		t.Errorf("%s: %q, %v; want an error with %q", place, got, err, want)
	}
}

func TestPeerVaultKV(t *testing.T) {
	v := realvault.Start(t)
	v.KV(t, "kv", "2")
	v.KV(t, "team/kv", "2")
	v.KV(t, "kv1", "1")
	token := v.Token(t, `
		path "kv/data/agents/*" { capabilities = ["read"] }
		path "team/kv/data/*"   { capabilities = ["read"] }
		path "kv1/*"            { capabilities = ["read"] }`, nil)
	two, one := ask(v, token, nil), ask(v, token, control.Settings{"kv": "1"})

	v.Do(t, "kv/data/agents/stripe", map[string]any{"data": map[string]any{"api_key": "canary-old"}})
	two.gives(t, "s:kv/data/agents/stripe#api_key", "canary-old", "1")
	v.Do(t, "kv/data/agents/stripe", map[string]any{"data": map[string]any{"api_key": "canary-key", "id": "a", "n": 7, "big": 1234567890123456, "no": false, "deep": map[string]any{"x": "y"}}})
	two.gives(t, "s:kv/data/agents/stripe#api_key", "canary-key", "2")
	two.gives(t, "s:kv/data/agents/stripe#n", "7", "2")
	two.gives(t, "s:kv/data/agents/stripe#big", "1234567890123456", "2")
	two.gives(t, "s:kv/data/agents/stripe#key=api_key,id", `{"id":"a","key":"canary-key"}`, "2")
	two.gives(t, "s:kv/data/agents/stripe", `{"api_key":"canary-key","big":1234567890123456,"deep":{"x":"y"},"id":"a","n":7,"no":false}`, "2")
	v.Do(t, "kv/data/agents/a b+c@d:e~f!", map[string]any{"data": map[string]any{"k": "canary-odd"}})
	two.gives(t, "s:kv/data/agents/a b+c@d:e~f!#k", "canary-odd", "1")
	v.Do(t, "team/kv/data/x/y", map[string]any{"data": map[string]any{"k": "canary-deep"}})
	two.gives(t, "s:team/kv/data/x/y#k", "canary-deep", "1")
	v.Do(t, "kv1/stripe", map[string]any{"data": "canary-1", "metadata": "x", "ttl": "1h"})
	one.gives(t, "s:kv1/stripe#data", "canary-1", "")
	large := strings.Repeat("canary-", 100_000)
	v.Do(t, "kv/data/agents/large", map[string]any{"data": map[string]any{"k": large, "bytes": "canary\x00\r\nü\u2028"}})
	two.gives(t, "s:kv/data/agents/large#k", large, "1")
	two.gives(t, "s:kv/data/agents/large#bytes", "canary\x00\r\nü\u2028", "1")

	two.fails(t, "s:kv/data/agents/none#api_key", "has nothing at kv/data/agents/none")
	two.fails(t, "s:kv/data/agents/stripe#apikey", `has no text "apikey"`)
	two.fails(t, "s:kv/data/agents/stripe#deep", `has no text "deep"`)
	two.fails(t, "s:kv/data/others/stripe#api_key", "answers 403")
	two.fails(t, "s:nothing/data/agents/stripe#api_key", "answers 403")
	two.fails(t, "s:kv1/data/stripe#data", "has nothing at kv1/data/stripe")
	one.fails(t, "s:kv1/none#data", "has nothing at kv1/none")
	one.fails(t, "s:kv/data/agents/stripe#api_key", `has no text "api_key"`)
	one.fails(t, "s:auth/token/lookup-self#id", "the token that opens it")
	one.fails(t, "s:auth/token/lookup-self", "the token that opens it")
	ask(v, "canary-no-token", nil).fails(t, "s:kv/data/agents/stripe#api_key", "answers 403")
	// Without an Enterprise licence Vault has no namespaces, and passes over which is asked for.
	ask(v, token, control.Settings{"namespace": "team/a"}).gives(t, "s:kv/data/agents/stripe#api_key", "canary-key", "2")

	// What is deleted or destroyed there is told from what is away, and comes back with it.
	v.Delete(t, "kv/data/agents/stripe")
	two.fails(t, "s:kv/data/agents/stripe#api_key", "or what was there is deleted")
	v.Do(t, "kv/undelete/agents/stripe", map[string]any{"versions": []int{2}})
	two.gives(t, "s:kv/data/agents/stripe#api_key", "canary-key", "2")
	v.Do(t, "kv/destroy/agents/stripe", map[string]any{"versions": []int{2}})
	two.fails(t, "s:kv/data/agents/stripe#api_key", "or what was there is deleted")
	v.Do(t, "kv/data/agents/stripe", map[string]any{"data": map[string]any{"api_key": "canary-old"}})
	two.gives(t, "s:kv/data/agents/stripe#api_key", "canary-old", "3")
	v.Delete(t, "kv/metadata/agents/stripe")
	two.fails(t, "s:kv/data/agents/stripe#api_key", "has nothing at")
}

// A token ends in each of the ways that Vault has for it.
func TestPeerVaultToken(t *testing.T) {
	v := realvault.Start(t)
	v.KV(t, "kv", "2")
	v.Do(t, "kv/data/agents/x", map[string]any{"data": map[string]any{"k": "canary-key"}})
	const place, over = "s:kv/data/agents/x#k", "answers 403: what opens it has expired, or may not read kv/data/agents/x"

	revoked := ask(v, v.Token(t, agents, nil), nil)
	revoked.gives(t, place, "canary-key", "1")
	v.Do(t, "auth/token/revoke", map[string]any{"token": revoked.secret})
	revoked.fails(t, place, over)

	used := ask(v, v.Token(t, agents, map[string]any{"num_uses": 2}), nil)
	used.gives(t, place, "canary-key", "1")
	used.gives(t, place, "canary-key", "1")
	used.fails(t, place, over)

	short := ask(v, v.Token(t, agents, map[string]any{"ttl": "1s"}), nil)
	short.gives(t, place, "canary-key", "1")
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if _, _, err := read(t, short.p, short.s, short.secret, place); err != nil {
			break
		}
	}
	short.fails(t, place, over)

	batch := ask(v, v.Token(t, agents, map[string]any{"type": "batch"}), nil)
	batch.gives(t, place, "canary-key", "1")
	ask(v, v.Token(t, `path "kv/data/agents/*" { capabilities = ["list"] }`, nil), nil).fails(t, place, over)
	ask(v, v.Token(t, `path "kv/metadata/*" { capabilities = ["read"] }`, nil), nil).fails(t, place, over)
}

// A role logs in, goes on by its token, and logs in again when that is revoked; another
// secret id takes the place of one that is not good any more.
func TestPeerVaultAppRole(t *testing.T) {
	v := realvault.Start(t)
	v.KV(t, "kv", "2")
	v.Do(t, "kv/data/agents/x", map[string]any{"data": map[string]any{"k": "canary-key"}})
	v.Do(t, "sys/policies/acl/agents", map[string]any{"policy": agents})
	const place = "s:kv/data/agents/x#k"
	for mount, settings := range map[string]control.Settings{"approle": {}, "teams/a": {"approle_mount": "teams/a"}} {
		v.Do(t, "sys/auth/"+mount, map[string]any{"type": "approle"})
		role := "auth/" + mount + "/role/sallyport"
		v.Do(t, role, map[string]any{"token_policies": "agents", "token_ttl": "1h"})
		settings["role_id"] = v.Get(t, role+"/role-id")["role_id"].(string)
		secretID := func() string { return v.Do(t, role+"/secret-id", nil).Data["secret_id"].(string) }
		a := ask(v, secretID(), settings)
		logins := func() (accessors []string) {
			for _, accessor := range v.List(t, "auth/token/accessors") {
				if v.Do(t, "auth/token/lookup-accessor", map[string]any{"accessor": accessor}).Data["path"] == "auth/"+mount+"/login" {
					accessors = append(accessors, accessor)
				}
			}
			return accessors
		}
		for range 3 {
			a.gives(t, place, "canary-key", "1")
		}
		if n := len(logins()); n != 1 {
			t.Errorf("%s: %d logins for three readings", mount, n)
		}
		for _, accessor := range logins() {
			v.Do(t, "auth/token/revoke-accessor", map[string]any{"accessor": accessor})
		}
		a.gives(t, place, "canary-key", "1")
		a.fails(t, "s:kv/data/others/x#k", "answers 403")

		next := a
		next.secret, next.s.Version = secretID(), 2
		v.Do(t, role+"/secret-id/destroy", map[string]any{"secret_id": a.secret})
		a.s.Version = 3 // as after a rotation: no token of before is used
		a.fails(t, place, "answers 400 to the login by AppRole")
		next.gives(t, place, "canary-key", "1")
		next.s.Settings["role_id"], next.s.Version = "canary-no-role", 4
		next.fails(t, place, "answers 400 to the login by AppRole")
	}
}

// What is sealed, or away, or shows a certificate of somebody else, says so and is used
// again when it is back.
func TestPeerVaultIsAway(t *testing.T) {
	v := realvault.Start(t)
	v.KV(t, "kv", "2")
	v.Do(t, "kv/data/agents/x", map[string]any{"data": map[string]any{"k": "canary-key"}})
	const place = "s:kv/data/agents/x#k"
	a := ask(v, v.Token(t, agents, nil), nil)
	a.gives(t, place, "canary-key", "1")
	v.Seal(t)
	a.fails(t, place, "answers 503")
	v.Unseal(t)
	a.gives(t, place, "canary-key", "1")
	v.Stop(t)
	a.fails(t, place, "refuses connections")
	v.Run(t)
	a.fails(t, place, "answers 503")
	v.Unseal(t)
	a.gives(t, place, "canary-key", "1")

	strange := a
	strange.p = newVault(exchange.NewClient(exchange.Reach{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}}))
	strange.fails(t, place, "has a certificate that is not trusted")
	if said := v.Log(); strings.Contains(said, a.secret) {
		t.Error("the token is in Vault's log")
	}
}
