//go:build peers

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/control"
	realvault "sallyport/control/controltest/vault"
)

// documented makes the policy of that name as a page of docs/ has it.
func documented(t *testing.T, v *realvault.Server, page, name string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../docs", page))
	if err != nil {
		t.Fatal(err)
	}
	policy := regexp.MustCompile("(?s)\nvault policy write " + name + " - <<'END'\n(.*?)\nEND\n").FindSubmatch(text)
	if policy == nil {
		t.Fatalf("docs/%s has no policy %s", page, name)
	}
	v.Do(t, "sys/policies/acl/"+name, map[string]any{"policy": string(policy[1])})
}

// rotateKeys rotates, and waits for the end.
func (p *program) rotateKeys(t *testing.T, body string) {
	t.Helper()
	if status, answer := p.call(t, "POST", "/v1/keys/rotate", body); status != 202 {
		t.Fatalf("rotate: %d %s", status, answer)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		status, answer := p.call(t, "GET", "/v1/keys", "")
		if status == 200 && strings.Contains(answer, `"finished_at"`) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("it does not end: %d %s%s", status, answer, p.stderr)
		}
	}
}

// TestPeerMoveToTransitAndBack moves a database from a file to a key of Vault's, as
// docs/operating.md says, rotates there, has Vault sealed, and moves it back.
func TestPeerMoveToTransitAndBack(t *testing.T) {
	v := realvault.Start(t)
	v.Do(t, "sys/mounts/transit", map[string]any{"type": "transit"})
	v.Do(t, "transit/keys/sallyport", nil)
	documented(t, v, "operating.md", "sallyport-key")
	t.Setenv("VAULT_CACERT", v.CA)
	tokenFile := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte(v.Do(t, "auth/token/create", map[string]any{"policies": []string{"sallyport-key"}}).Auth.ClientToken), 0o600); err != nil {
		t.Fatal(err)
	}
	transit := "vault:" + v.Address + "/transit/keys/sallyport?token-file=" + tokenFile
	dir := filepath.Join(t.TempDir(), "new")
	file := filepath.Join(dir, "kek")
	stored := 0
	store := func(p *program, want int) string {
		t.Helper()
		stored++
		name := strings.Repeat("x", stored)
		status, body := p.call(t, "POST", "/v1/teams/default/vaults/v/credentials", `{"name":"`+name+`","hosts":["`+name+`.example.com"],"secret":"sk_live_1_and_some_more"}`)
		if status != want {
			t.Fatalf("store: %d %s", status, body)
		}
		return body
	}
	p := serve(t, dir)
	if status, body := p.call(t, "POST", "/v1/teams/default/vaults", `{"name":"v"}`); status != 201 {
		t.Fatalf("%d %s", status, body)
	}
	store(p, 201)
	p.end(t, syscall.SIGTERM)

	p = serve(t, dir, "--kek", transit, "--kek-other", file)
	p.rotateKeys(t, `{}`)
	p.end(t, syscall.SIGTERM)
	kept := filepath.Join(t.TempDir(), "kek")
	if err := os.Rename(file, kept); err != nil {
		t.Fatal(err)
	}
	p = serve(t, dir, "--kek", transit)
	store(p, 201)

	// A version of Vault's: what it wrapped is wrapped anew before the old one ends.
	v.Do(t, "transit/keys/sallyport/rotate", nil)
	p.rotateKeys(t, `{}`)
	v.Do(t, "transit/keys/sallyport/config", map[string]any{"min_decryption_version": 2, "min_encryption_version": 2})
	p.end(t, syscall.SIGTERM)
	p = serve(t, dir, "--kek", transit)
	store(p, 201)
	p.rotateKeys(t, `{"new_data_keys": true}`)
	store(p, 201)

	// Sealed under a running one: what was used goes on, a new vault says why not.
	v.Seal(t)
	store(p, 201)
	status, body := p.call(t, "POST", "/v1/teams/default/vaults", `{"name":"w"}`)
	if status != 503 || !strings.Contains(body, "the key-encryption key vault:transit/keys/sallyport can't be used now") || strings.Contains(body, "sealed") {
		t.Errorf("a vault while Vault is sealed: %d %s", status, body)
	}
	if !strings.Contains(p.stderr.String(), "transit answers 503 to encrypt: Vault is sealed") {
		t.Errorf("the log does not say what Vault does: %s", p.stderr)
	}
	v.Unseal(t)
	if status, body := p.call(t, "POST", "/v1/teams/default/vaults", `{"name":"w"}`); status != 201 {
		t.Errorf("a vault when it is unsealed: %d %s", status, body)
	}
	p.end(t, syscall.SIGTERM)
	v.Seal(t)
	if said := start(t, dir, "--kek", transit).fails(t); !strings.Contains(said, "transit answers 503 to encrypt: Vault is sealed") {
		t.Errorf("a start while Vault is sealed: %s", said)
	}
	v.Unseal(t)

	p = serve(t, dir, "--kek", kept, "--kek-other", transit)
	p.rotateKeys(t, `{}`)
	p.end(t, syscall.SIGTERM)
	v.Stop(t)
	p = serve(t, dir, "--kek", kept)
	store(p, 201)
	p.end(t, syscall.SIGTERM)
}

// TestPeerSourceAsDocumented makes a source by the commands of docs/external.md, for a
// Vault whose authority the operator trusts, and has a change there rotate.
func TestPeerSourceAsDocumented(t *testing.T) {
	v := realvault.Start(t)
	v.KV(t, "kv", "2")
	v.Do(t, "kv/data/agents/stripe", map[string]any{"data": map[string]any{"api_key": "sk_live_canary_0123456789"}})
	documented(t, v, "external.md", "sallyport-agents")
	v.Do(t, "sys/auth/approle", map[string]any{"type": "approle"})
	v.Do(t, "auth/approle/role/sallyport", map[string]any{"token_policies": "sallyport-agents", "token_ttl": "1h", "token_no_default_policy": true})
	roleID := v.Get(t, "auth/approle/role/sallyport/role-id")["role_id"].(string)
	secretID := v.Do(t, "auth/approle/role/sallyport/secret-id", nil).Data["secret_id"].(string)
	p := serve(t, laid(t), "--exchange-ca", v.CA, "--exchange-network", "127.0.0.0/8", "--exchange-network", "::1/128")
	call := func(method, path, body string, want int) string {
		t.Helper()
		status, answer := p.call(t, method, "/v1/teams/default/vaults"+path, body)
		if status != want || strings.Contains(answer, "canary") || strings.Contains(answer, secretID) {
			t.Fatalf("%s %s: %d %s", method, path, status, answer)
		}
		return answer
	}
	call("POST", "", `{"name": "payments"}`, 201)
	call("POST", "/payments/sources", `{"name": "vault", "kind": "vault", "secret": "`+secretID+`", "settings": {"address": "`+v.Address+`", "prefix": "kv/data/agents/", "role_id": "`+roleID+`"}}`, 201)
	call("POST", "/payments/credentials", `{"name": "stripe", "service": "stripe", "from": "vault:kv/data/agents/stripe#api_key"}`, 201)
	v.Do(t, "kv/data/agents/stripe", map[string]any{"data": map[string]any{"api_key": "sk_live_canary_another_0123456789"}})
	call("POST", "/payments/credentials/stripe/refresh", ``, 200)
	var c control.Credential
	if err := json.Unmarshal([]byte(call("GET", "/payments/credentials/stripe", "", 200)), &c); err != nil || c.Version != 2 || c.FromVersion != "2" {
		t.Errorf("version %d, of %q there, %v", c.Version, c.FromVersion, err)
	}

	// The role reads nothing else, even where the source had no prefix.
	v.Do(t, "kv/data/others/x", map[string]any{"data": map[string]any{"api_key": "sk_live_canary_0123456789"}})
	call("POST", "/payments/sources", `{"name": "wide", "kind": "vault", "secret": "`+secretID+`", "settings": {"address": "`+v.Address+`", "role_id": "`+roleID+`"}}`, 201)
	for _, path := range []string{"kv/data/others/x", "kv/metadata/data/agents/stripe", "sys/internal/ui/data/mounts", "auth/token/data/lookup-self"} {
		if said := call("POST", "/payments/credentials", `{"name": "other", "service": "stripe", "from": "wide:`+path+`#api_key"}`, 502); !strings.Contains(said, "the source payments/wide answers 403") {
			t.Errorf("%s: %s", path, said)
		}
	}
	v.Delete(t, "kv/metadata/agents/stripe")
	if said := call("POST", "/payments/credentials/stripe/refresh", ``, 502); !strings.Contains(said, "has nothing at kv/data/agents/stripe") {
		t.Error(said)
	}
	v.Seal(t)
	if said := call("POST", "/payments/credentials/stripe/refresh", ``, 502); !strings.Contains(said, "answers 503") {
		t.Error(said)
	}
	if said := p.stderr.String(); strings.Contains(said, "canary") || strings.Contains(said, secretID) {
		t.Error("a secret is in the log")
	}
}
