// Package externaltest has stores of secrets for tests: what the real ones hold to,
// as far as Sallyport meets it, and answers in their shapes.
package externaltest

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// FakeVault is a HashiCorp Vault or OpenBao with a KV engine of version 2 at kv/ and one of
// version 1 at kv1/, an engine of dynamic secrets at database/, and AppRole at approle/.
type FakeVault struct {
	Namespace string // that all of it is in; "": none

	mu       sync.Mutex
	answer   http.HandlerFunc // in the place of its own; nil: none
	tokens   map[string]*grant
	secretID map[string]string           // by role id
	secrets  map[string][]map[string]any // versions by path; nil: deleted
	logins   int
	asked    atomic.Int64
}

// grant is what a token may do.
type grant struct {
	paths []string // prefixes
	uses  int      // left; 0: any number
	ends  time.Time
}

// NewFakeVault makes an empty one.
func NewFakeVault() *FakeVault {
	return &FakeVault{tokens: map[string]*grant{}, secretID: map[string]string{}, secrets: map[string][]map[string]any{}}
}

// Allow makes a token that may read below paths.
func (v *FakeVault) Allow(token string, paths ...string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.tokens[token] = &grant{paths: paths}
}

// Revoke makes every token void.
func (v *FakeVault) Revoke() {
	v.mu.Lock()
	defer v.mu.Unlock()
	clear(v.tokens)
}

// Role makes an AppRole; its tokens may read all of kv/.
func (v *FakeVault) Role(roleID, secretID string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.secretID[roleID] = secretID
}

// Put writes a secret, at a path as kv/stripe or kv1/stripe; nil deletes its newest version.
func (v *FakeVault) Put(path string, fields map[string]any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.secrets[path] = append(v.secrets[path], fields)
}

// Answer answers all requests from now on, until it is nil.
func (v *FakeVault) Answer(answer http.HandlerFunc) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.answer = answer
}

// Asked is how many requests there were, and Logins how many of them logged in.
func (v *FakeVault) Asked() int { return int(v.asked.Load()) }

// Logins is how often a role has logged in.
func (v *FakeVault) Logins() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.logins
}

// ServeHTTP implements http.Handler.
func (v *FakeVault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.asked.Add(1)
	v.mu.Lock()
	answer := v.answer
	v.mu.Unlock()
	if answer != nil {
		answer(w, r)
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	path, found := strings.CutPrefix(r.URL.EscapedPath(), "/v1/")
	switch {
	case !found:
		refuse(w, 404)
	case strings.Trim(r.Header.Get("X-Vault-Namespace"), "/") != v.Namespace: // it knows nothing there
		refuse(w, 403, "permission denied")
	case path == "auth/approle/login":
		v.login(w, r)
	case !v.may(r.Header.Get("X-Vault-Token"), path):
		refuse(w, 403, "1 error occurred:\n\t* permission denied\n\n")
	case r.Method != http.MethodGet:
		refuse(w, 405, "1 error occurred:\n\t* unsupported operation\n\n")
	default:
		v.read(w, path)
	}
}

func (v *FakeVault) may(token, path string) bool {
	g := v.tokens[token]
	if g == nil || !g.ends.IsZero() && time.Now().After(g.ends) {
		return false
	}
	if g.uses > 0 {
		if g.uses--; g.uses == 0 {
			delete(v.tokens, token)
		}
	}
	return slices.ContainsFunc(g.paths, func(p string) bool { return strings.HasPrefix(path, p) })
}

func (v *FakeVault) login(w http.ResponseWriter, r *http.Request) {
	var in struct {
		RoleID   string `json:"role_id"`
		SecretID string `json:"secret_id"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || v.secretID[in.RoleID] == "" || v.secretID[in.RoleID] != in.SecretID {
		refuse(w, 400, "invalid role or secret ID")
		return
	}
	v.logins++
	token := "hvs." + strings.Repeat("l", v.logins) + "-canary-login"
	v.tokens[token] = &grant{paths: []string{"kv/"}, ends: time.Now().Add(time.Hour)}
	write(w, 200, envelope(map[string]any{"auth": map[string]any{
		"client_token": token, "accessor": "accessor", "policies": []string{"default"}, "token_policies": []string{"default"}, "metadata": map[string]any{"role_name": "sallyport"},
		"lease_duration": 3600, "renewable": true, "entity_id": "entity", "token_type": "service", "orphan": true, "mfa_requirement": nil, "num_uses": 0,
	}}))
}

func (v *FakeVault) read(w http.ResponseWriter, path string) {
	mount, rest, _ := strings.Cut(path, "/")
	switch mount {
	case "kv":
		name, found := strings.CutPrefix(rest, "data/")
		if !found { // of the engine's other paths, such as metadata/, none is here
			refuse(w, 404)
			return
		}
		v.readVersions(w, "kv/"+name)
	case "kv1":
		versions := v.secrets[path]
		if len(versions) == 0 || versions[len(versions)-1] == nil {
			refuse(w, 404)
			return
		}
		write(w, 200, envelope(map[string]any{"lease_duration": 2764800, "data": versions[len(versions)-1]}))
	case "database":
		write(w, 200, envelope(map[string]any{"lease_id": path + "/lease", "renewable": true, "lease_duration": 3600, "data": map[string]any{"username": "u", "password": "p"}}))
	default:
		refuse(w, 403, "1 error occurred:\n\t* permission denied\n\n")
	}
}

func (v *FakeVault) readVersions(w http.ResponseWriter, path string) {
	versions := v.secrets[path]
	if len(versions) == 0 {
		refuse(w, 404)
		return
	}
	metadata := map[string]any{"created_time": "2026-11-28T10:00:00.000000000Z", "custom_metadata": nil, "deletion_time": "", "destroyed": false, "version": len(versions)}
	newest := versions[len(versions)-1]
	if newest == nil {
		metadata["deletion_time"] = "2026-11-28T11:00:00.000000000Z"
		write(w, 404, envelope(map[string]any{"data": map[string]any{"data": nil, "metadata": metadata}}))
		return
	}
	write(w, 200, envelope(map[string]any{"data": map[string]any{"data": newest, "metadata": metadata}}))
}

// envelope is what every answer of Vault is in.
func envelope(with map[string]any) map[string]any {
	all := map[string]any{
		"request_id": "6b1cbfbb-4a8d-2e9c-6d8f-2f2b6d0c1c52", "lease_id": "", "renewable": false, "lease_duration": 0,
		"data": nil, "wrap_info": nil, "warnings": nil, "auth": nil,
	}
	for name, value := range with {
		all[name] = value
	}
	return all
}

func refuse(w http.ResponseWriter, status int, errors ...string) {
	if errors == nil {
		errors = []string{}
	}
	write(w, status, map[string]any{"errors": errors})
}

func write(w http.ResponseWriter, status int, body any) {
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}
