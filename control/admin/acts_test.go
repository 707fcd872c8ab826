package admin_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/control"
	"sallyport/control/admin"
	"sallyport/control/controltest"
	"sallyport/control/external/externaltest"
	"sallyport/control/store"
)

// deed is an operation that changes something, once as it should be and once on what
// is not there, or is there already.
type deed struct {
	op, kind string
	path     string // from the operation's: {x} is filled in
	body     any
	wrong    string // the path to fail at; "" is the same again
}

// deeds are in an order in which each finds what it needs. tokenURL is of an
// authorization server that allows whatever is asked.
func deeds(tokenURL, vaultURL string) []deed {
	return []deed{
		{"update-team", "team.audit", "", map[string]any{"audit": "durable"}, "team=none"},
		{"set-quota", "team.quota", "", map[string]any{"vaults": 2}, "team=none"},
		{"create-vault", "vault.create", "", map[string]any{"name": "v"}, ""},
		{"create-vault", "vault.create", "", map[string]any{"name": "w"}, ""},
		{"create-credential", "credential.create", "vault=v", map[string]any{"name": "c", "service": "stripe", "secret": "sk_live_0123456789"}, ""},
		{"update-credential", "credential.update", "vault=v credential=c", map[string]any{"mints": []string{"allow /**"}}, "vault=v credential=none"},
		{"update-credential", "credential.update", "vault=v credential=c", map[string]any{"limits": map[string]any{"approve": "each"}}, "vault=v credential=none"},
		{"rotate-credential", "credential.rotate", "vault=v credential=c", map[string]any{"secret": "sk_live_9876543210"}, "vault=v credential=none"},
		{"update-credential", "credential.update", "vault=v credential=c", map[string]any{"rotate_every": "90d"}, "vault=v credential=none"},
		{"rotate-credential", "credential.rotate", "vault=v credential=c", map[string]any{"secret": "sk_live_1234567890", "overlap": "10m"}, "vault=v credential=none"},
		{"end-overlap", "credential.overlap_end", "vault=v credential=c", nil, ""},
		{"create-credential", "credential.create", "vault=v", map[string]any{
			"name": "o", "hosts": []string{"api.example.com"}, "auth": "oauth_refresh", "secret": `{"client_secret": "s3cret"}`,
			"settings": map[string]string{"token_url": tokenURL, "client_id": "c"},
		}, ""},
		{"login-credential", "credential.login", "vault=v credential=o", map[string]any{
			"code": "c0de", "code_verifier": "v3rifier", "redirect_uri": "http://127.0.0.1:1/x",
		}, "vault=v credential=none"},
		{"discover-credential", "credential.create", "vault=v", map[string]any{"name": "m", "url": tokenURL, "redirect_uri": "http://127.0.0.1:1/x"}, ""},
		{"create-source", "source.create", "vault=v", map[string]any{
			"name": "s", "kind": "vault", "settings": map[string]string{"address": vaultURL}, "secret": "hvs.0p3ns",
		}, ""},
		{"rotate-source", "source.rotate", "vault=v source=s", map[string]any{"secret": "hvs.0p3ns-t00"}, "vault=v source=none"},
		{"create-credential", "credential.create", "vault=v", map[string]any{"name": "f", "hosts": []string{"f.example.com"}, "from": "s:kv/data/f#key"}, ""},
		{"refresh-credential", "credential.refresh", "vault=v credential=f", nil, "vault=v credential=none"},
		{"delete-credential", "credential.delete", "vault=v credential=f", nil, ""},
		{"delete-source", "source.delete", "vault=v source=s", nil, ""},
		{"create-agent", "agent.create", "", map[string]any{"name": "a"}, ""},
		{"pin-vault", "agent.pin", "agent=a vault=v", nil, "agent=a vault=none"},
		{"set-policy", "agent.policy", "agent=a", map[string]any{"default": "deny"}, "agent=none"},
		{"create-sandbox", "sandbox.create", "agent=a", nil, "agent=none"},
		{"approve-approval", "approval.approve", "approval=/one", nil, "approval=" + store.NewID()},
		{"deny-approval", "approval.deny", "approval=/another", nil, ""},
		{"delete-sandbox", "sandbox.revoke", "sandbox=it", nil, "sandbox=" + store.NewID()},
		{"create-token", "token.create", "", map[string]any{"name": "t", "role": "viewer"}, ""},
		{"rotate-token", "token.rotate", "token=t", map[string]any{"overlap": "1h"}, "token=none"},
		{"delete-token", "token.delete", "token=t", nil, ""},
		{"create-global-token", "token.create", "", map[string]any{"name": "TEAM", "role": "viewer"}, ""},
		{"rotate-global-token", "token.rotate", "token=TEAM", map[string]any{}, "token=none"},
		{"delete-global-token", "token.delete", "token=TEAM", nil, ""},
		{"unpin-vault", "agent.unpin", "agent=a vault=v", nil, ""},
		{"delete-agent", "agent.delete", "agent=a", nil, ""},
		{"delete-credential", "credential.delete", "vault=v credential=c", nil, ""},
		{"delete-vault", "vault.delete", "vault=v", nil, ""},
		{"delete-session", "session.revoke", "session=theirs", nil, ""},
		{"rotate-ca", "ca.stage", "", map[string]any{"step": "stage"}, ""},
		{"create-team", "team.create", "", map[string]any{"name": "TEAM-2"}, ""},
	}
}

// TestEveryActIsAudited does everything that the API can: each leaves one event, with
// who did it and in which request; what was refused leaves none, whoever tried.
func TestEveryActIsAudited(t *testing.T) {
	var changing []string
	paths := map[string]operation{}
	for _, op := range operations(t) {
		paths[op.id] = op
		if op.method != http.MethodGet && !admin.OpenToAll()[op.id] && op.id != "explain" { // which changes nothing
			changing = append(changing, op.id)
		}
	}
	team := plane.NewTeam(t)
	login, err := plane.Store.CreateSession(t.Context(), control.Person{Issuer: "https://issuer.example.com", Subject: "s", Email: "a@example.com", Grants: []control.Grant{}},
		admin.HashToken(team.Name), time.Hour, time.Hour, control.Event{Kind: "session.create", Actor: "system"})
	if err != nil {
		t.Fatal(err)
	}
	made := map[string]string{"theirs": login.ID}
	authorization := plane.ServeLocalhost(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		at := "https://" + r.Host
		fmt.Fprintf(w, `{"access_token": "acc3ss", "token_type": "bearer", "refresh_token": "r3fresh",
			"resource": %[1]q, "authorization_servers": [%[1]q], "issuer": %[1]q, "code_challenge_methods_supported": ["S256"], "client_id": "c", "client_secret": "s3cret",
			"authorization_endpoint": %[2]q, "token_endpoint": %[2]q, "registration_endpoint": %[2]q}`, at, at+"/at")
	}))
	vault := externaltest.NewFakeVault()
	vault.Allow("hvs.0p3ns-t00", "kv/data/")
	vault.Put("kv/f", map[string]any{"key": "sk_live_0123456789"})
	far := httptest.NewTLSServer(vault)
	t.Cleanup(far.Close)
	var joinToken string
	done := []string{
		"rotate-keys",          // in TestRotateKeys: again is no mistake, and what it begins leaves events of its own
		"test-credential",      // in TestTrial of cmd/sallyport-control, which has the rules of a sidecar: it leaves two
		"create-token-session", // in TestTokenSessions: anybody may, again and again
	}
	for _, d := range deeds(authorization, far.URL) {
		op := paths[d.op]
		before := ledger(t, team)
		for _, caller := range []string{token(t, team, control.RoleViewer), admin.NewToken()} {
			if r := d.do(t, caller, op, team, d.path, made); r.Status != 403 && r.Status != 401 && r.Status != 404 {
				t.Errorf("%s: %d %s", d.op, r.Status, r.Body)
			}
		}
		before = append(before, fresh(t, team, before, "token.create")...) // the viewer's
		r := d.do(t, plane.Owner, op, team, d.path, made)
		if r.Status/100 != 2 {
			t.Fatalf("%s: %d %s", d.op, r.Status, r.Body)
		}
		if d.op == "create-sandbox" {
			var answer struct {
				Sandbox   control.Sandbox
				JoinToken string `json:"join_token"`
			}
			r.Into(t, 201, &answer)
			made["it"], joinToken = answer.Sandbox.ID, answer.JoinToken
		}
		events := fresh(t, team, before, "")
		if d.op == "create-team" {
			events = append(events, (&controltest.Team{Plane: plane, Name: team.Name + "-2"}).Events(t)...)
		}
		if len(events) != 1 || events[0].Kind != d.kind || events[0].Actor != "token:owner" || events[0].RequestID != r.Header.Get("X-Request-Id") {
			t.Errorf("%s left %+v", d.op, events)
		}
		before = append(before, events...)
		wrong := d.wrong
		if wrong == "" {
			wrong = d.path
		}
		if r := d.do(t, plane.Owner, op, team, wrong, made); r.Status != 404 && r.Status != 409 {
			t.Errorf("%s that can't be: %d %s", d.op, r.Status, r.Body)
		}
		if events := fresh(t, team, before, ""); len(events) > 0 && d.op != "create-team" {
			t.Errorf("%s was refused, and left %+v", d.op, events)
		}
		if d.op == "create-sandbox" {
			for _, approval := range askApproval(t, team, joinToken, "v", "c", "/one", "/another") {
				made[approval.Path] = approval.ID
			}
		}
		done = append(done, d.op)
	}
	slices.Sort(changing)
	slices.Sort(done)
	if done = slices.Compact(done); !slices.Equal(done, changing) {
		t.Errorf("done: %q\nthere is: %q", done, changing)
	}
	if err := plane.Store.VerifyChain(t.Context(), team.ID); err != nil {
		t.Error(err)
	}
}

// askApproval enrols the sandbox of a join token, and asks whether it may use a credential at each path.
func askApproval(t *testing.T, team *controltest.Team, joinToken, vault, credential string, paths ...string) []control.Approval {
	t.Helper()
	sidecar := plane.NewSidecar(t)
	if err := sidecar.Enroll(t, joinToken); err != nil {
		t.Fatal(err)
	}
	c, err := plane.Store.Credential(t.Context(), team.ID, vault, credential)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if _, err := plane.Store.AskApproval(t.Context(), store.Question{
			TeamID: team.ID, SandboxID: sidecar.ID, CredentialID: c.ID, Version: c.Version, Host: "api.stripe.com", Port: 443, Method: "POST", Path: path, Request: path,
		}); err != nil {
			t.Fatal(err)
		}
	}
	asked, _, err := plane.Store.Approvals(t.Context(), team.ID, true, store.Page{})
	if err != nil || len(asked) != len(paths) {
		t.Fatalf("%d wait for a person: %v", len(asked), err)
	}
	return asked
}

func (d deed) do(t *testing.T, caller string, op operation, team *controltest.Team, names string, made map[string]string) controltest.Response {
	t.Helper()
	path, header := op.path, http.Header{"If-Match": {"*"}}
	for _, pair := range strings.Fields(names) {
		key, value, _ := strings.Cut(pair, "=")
		if id, found := made[value]; found {
			value = id
		}
		if key == "approval" { // a decision is of what was shown, and of nothing else
			header.Set("If-Match", control.Approval{ID: value, State: control.ApprovalPending}.Tag())
		}
		path = strings.ReplaceAll(path, "{"+key+"}", strings.ReplaceAll(value, "TEAM", team.Name))
	}
	path = strings.ReplaceAll(path, "{team}", team.Name)
	body, ok := d.body.(map[string]any)
	if !ok {
		return plane.DoWith(t, caller, op.method, path, nil, header)
	}
	body = maps.Clone(body)
	if name, ok := body["name"].(string); ok {
		body["name"] = strings.ReplaceAll(name, "TEAM", team.Name)
	}
	return plane.DoWith(t, caller, op.method, path, body, header)
}

// ledger is the events of the team, and of the installation.
func ledger(t *testing.T, team *controltest.Team) []control.Event {
	t.Helper()
	global, _, err := plane.Store.Events(t.Context(), "", store.Page{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	return append(team.Events(t), global...)
}

// fresh are the events that are not in before, of a kind if one is given.
func fresh(t *testing.T, team *controltest.Team, before []control.Event, kind string) []control.Event {
	t.Helper()
	return slices.DeleteFunc(ledger(t, team), func(e control.Event) bool {
		return slices.Contains(before, e) || kind != "" && e.Kind != kind
	})
}
