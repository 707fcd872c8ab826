package admin_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"sallyport/control"
	"sallyport/control/admin"
)

// person logs somebody in, past the issuer, and gives the session.
func person(t *testing.T, email string, grants ...control.Grant) (value string, made control.Session) {
	t.Helper()
	value = admin.NewSessionValue()
	p := control.Person{Issuer: "https://issuer.example.com", Subject: "sub-" + email, Email: email, Grants: append([]control.Grant{}, grants...)}
	made, err := plane.Store.CreateSession(t.Context(), p, admin.HashToken(value), time.Hour, time.Hour, control.Event{Kind: "session.create", Actor: "system"})
	if err != nil {
		t.Fatal(err)
	}
	return value, made
}

// TestPersonsRoles: each team with its own, and nothing of a team without one.
func TestPersonsRoles(t *testing.T) {
	one, two, three := plane.NewTeam(t), plane.NewTeam(t), plane.NewTeam(t)
	alice, _ := person(t, "alice@example.com", control.Grant{Team: one.Name, Role: control.RoleAdmin}, control.Grant{Team: two.Name, Role: control.RoleViewer}, control.Grant{Team: two.Name, Role: control.RoleMember})
	for path, want := range map[string]int{
		one.Path("vaults"): 201, two.Path("vaults"): 403, three.Path("vaults"): 404, one.Path("tokens"): 403, "/v1/teams": 403, "/v1/tokens": 403,
	} {
		if r := plane.Do(t, alice, "POST", path, map[string]any{"name": "x"}); r.Status != want {
			t.Errorf("POST %s: %d %s", path, r.Status, r.Body)
		}
	}
	two.Must(t, "POST", "agents", map[string]any{"name": "a"}, nil)
	if r := plane.Do(t, alice, "POST", two.Path("agents/a/sandboxes"), nil); r.Status != 201 {
		t.Errorf("the higher of two roles: %d %s", r.Status, r.Body)
	}
	var page struct{ Items []control.Team }
	plane.Do(t, alice, "GET", "/v1/teams", nil).Into(t, 200, &page)
	if len(page.Items) != 2 {
		t.Errorf("alice sees the teams %+v", page.Items)
	}
	if r := plane.Do(t, alice, "POST", one.Path("agents"), map[string]any{"name": "b"}); r.Status != 201 || one.Events(t)[0].Actor != "person:alice@example.com/sub-alice@example.com" {
		t.Errorf("%d, and the newest event is %+v", r.Status, one.Events(t)[0])
	}
	root, _ := person(t, "root@example.com", control.Grant{Role: control.RoleOwner})
	if r := plane.Do(t, root, "POST", three.Path("vaults"), map[string]any{"name": "x"}); r.Status != 201 {
		t.Errorf("an owner of every team: %d %s", r.Status, r.Body)
	}
	nobody, _ := person(t, "nobody@example.com")
	if r := plane.Do(t, nobody, "GET", "/v1/teams", nil); r.Status != 403 {
		t.Errorf("without a role: %d %s", r.Status, r.Body)
	}
}

// TestSessionsOfOthers: everybody sees and ends their own; only an owner of every team
// those of others.
func TestSessionsOfOthers(t *testing.T) {
	team := plane.NewTeam(t)
	viewer := control.Grant{Team: team.Name, Role: control.RoleViewer}
	alice, hers := person(t, "alice-"+team.Name+"@example.com", viewer)
	bob, his := person(t, "bob-"+team.Name+"@example.com", control.Grant{Team: team.Name, Role: control.RoleOwner})
	list := func(value string) string { return plane.Do(t, value, "GET", "/v1/sessions?limit=1000", nil).Body }
	if l := list(alice); !strings.Contains(l, hers.ID) || strings.Contains(l, his.ID) {
		t.Errorf("alice sees %s", l)
	}
	if l := list(bob); strings.Contains(l, hers.ID) {
		t.Errorf("bob sees %s", l)
	}
	if l := list(token(t, team, control.RoleOwner)); strings.Contains(l, hers.ID) || strings.Contains(l, his.ID) {
		t.Errorf("a token of the team sees %s", l)
	}
	if l := list(plane.Owner); !strings.Contains(l, hers.ID) || !strings.Contains(l, his.ID) || strings.Contains(l, alice) {
		t.Errorf("the owner sees %s", l)
	}
	for _, value := range []string{bob, token(t, team, control.RoleOwner), token(t, nil, control.RoleAdmin)} {
		problem(t, plane.Do(t, value, "DELETE", "/v1/sessions/"+hers.ID, nil), 404)
	}
	problem(t, plane.Do(t, plane.Owner, "DELETE", "/v1/sessions/current", nil), 404)
	if r := plane.Do(t, alice, "DELETE", "/v1/sessions/current", nil); r.Status != 204 {
		t.Errorf("%d %s", r.Status, r.Body)
	}
	problem(t, plane.Do(t, alice, "GET", "/v1/info", nil), 401)
	if r := plane.Do(t, plane.Owner, "DELETE", "/v1/sessions/"+his.ID, nil); r.Status != 204 {
		t.Errorf("%d %s", r.Status, r.Body)
	}
	problem(t, plane.Do(t, bob, "GET", "/v1/info", nil), 401)
}

// TestSessionIsNobodysChoice: a value that somebody made up, before a login or after it,
// opens nothing, as a token neither; and a session is no API token.
func TestSessionIsNobodysChoice(t *testing.T) {
	value, _ := person(t, "carol@example.com", control.Grant{Role: control.RoleViewer})
	for _, guess := range []string{admin.NewSessionValue(), "sp_" + strings.TrimPrefix(value, "sp_session_"), "sp_session_" + strings.TrimPrefix(plane.Owner, "sp_"), value + "x", value[:len(value)-1]} {
		problem(t, plane.Do(t, guess, "GET", "/v1/info", nil), 401)
	}
	// Sent as a browser sends things by itself, it is nothing: no page can act for a person.
	for _, header := range []http.Header{{"Cookie": {"session=" + value}}, {"Authorization": {"Basic " + value}}} {
		problem(t, plane.DoWith(t, "", "GET", "/v1/info", nil, header), 401)
	}
	problem(t, plane.Do(t, "", "GET", "/v1/info?access_token="+value, nil), 401)
}

// TestLoginWithoutIssuer: there is nothing to log in by here.
func TestLoginWithoutIssuer(t *testing.T) {
	problem(t, plane.Do(t, "", "GET", "/v1/login", nil), 404)
	problem(t, plane.Do(t, "", "POST", "/v1/login/device", nil), 404)
	problem(t, plane.Do(t, "", "POST", "/v1/sessions", map[string]any{"device_code": "x"}), 404)
}

// TestTokensHaveAnEnd where the installation wants that, and say so before.
func TestTokensHaveAnEnd(t *testing.T) {
	config := plane.Admin.Config
	config.TokenLifetime = 48 * time.Hour
	s, err := admin.New(config)
	if err != nil {
		t.Fatal(err)
	}
	team := plane.NewTeam(t)
	ask := serving(s)
	made := func(r answered) (token struct {
		control.Token
		Value string
	}) {
		t.Helper()
		if err := json.Unmarshal([]byte(r.body), &token); err != nil || r.status/100 != 2 {
			t.Fatalf("%d %s", r.status, r.body)
		}
		return token
	}
	first := made(ask(plane.Owner, "POST", team.Path("tokens"), `{"name":"ci","role":"viewer"}`))
	if first.ExpiresAt == nil || time.Until(*first.ExpiresAt) > 48*time.Hour || time.Until(*first.ExpiresAt) < 47*time.Hour {
		t.Errorf("it ends at %v", first.ExpiresAt)
	}
	far, near := time.Now().Add(72*time.Hour).UTC().Format(time.RFC3339), time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	if r := ask(plane.Owner, "POST", team.Path("tokens"), `{"name":"x","role":"viewer","expires_at":"`+far+`"}`); r.status != 422 || !strings.Contains(r.body, "48h0m0s at most") {
		t.Errorf("%d %s", r.status, r.body)
	}
	if r := ask(plane.Owner, "POST", team.Path("tokens/ci/rotate"), `{"expires_at":"`+far+`"}`); r.status != 422 {
		t.Errorf("%d %s", r.status, r.body)
	}
	made(ask(plane.Owner, "POST", team.Path("tokens"), `{"name":"short","role":"viewer","expires_at":"`+near+`"}`))
	second := made(ask(plane.Owner, "POST", team.Path("tokens/short/rotate"), `{"overlap":"1h"}`))
	if left := time.Until(*second.ExpiresAt); left > time.Hour || left < 50*time.Minute {
		t.Errorf("rotated, it ends at %v", second.ExpiresAt)
	}
	if r := ask(second.Value, "GET", "/v1/info", ""); r.status != 200 || r.header.Get("Sallyport-Token-Expires") == "" {
		t.Errorf("%d %v", r.status, r.header)
	}
	if r := ask(plane.Owner, "GET", "/v1/info", ""); r.header.Get("Sallyport-Token-Expires") != "" {
		t.Errorf("one without end: %v", r.header)
	}
}
