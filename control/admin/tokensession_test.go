package admin_test

import (
	"strings"
	"testing"

	"sallyport/control"
)

// TestTokenSessions: a browser's session is what its token is, for no longer than that is,
// and begins no other.
func TestTokenSessions(t *testing.T) {
	team, other := plane.NewTeam(t), plane.NewTeam(t)
	own := token(t, team, control.RoleAdmin)
	var made struct{ Value string }
	var left []control.Event
	r := plane.Do(t, own, "POST", "/v1/sessions/token", nil)
	r.Into(t, 201, &made)
	if !strings.HasPrefix(made.Value, "sp_session_") || strings.Contains(r.Body, own) {
		t.Fatalf("made %s", r.Body)
	}
	for _, e := range ledger(t, team) {
		if e.RequestID == r.Header.Get("X-Request-Id") {
			left = append(left, e)
		}
	}
	if len(left) != 1 || left[0].Kind != "session.create" || !strings.HasPrefix(left[0].Actor, "token:t") || !strings.Contains(left[0].Detail, team.Name) {
		t.Errorf("it left %+v", left)
	}
	for path, want := range map[string]int{team.Path("vaults"): 201, team.Path("tokens"): 403, other.Path("vaults"): 404, "/v1/teams": 403, "/v1/sessions/token": 403} {
		if r := plane.Do(t, made.Value, "POST", path, map[string]any{"name": "x"}); r.Status != want {
			t.Errorf("POST %s: %d %s", path, r.Status, r.Body)
		}
	}
	if e := team.Events(t)[0]; e.Kind != "vault.create" || !strings.HasPrefix(e.Actor, "token:t") {
		t.Errorf("the newest event is %+v", e)
	}
	alice, _ := person(t, "session-"+team.Name+"@example.com", control.Grant{Role: control.RoleOwner})
	problem(t, plane.Do(t, alice, "POST", "/v1/sessions/token", nil), 403)
	problem(t, plane.Do(t, "", "POST", "/v1/sessions/token", nil), 401)
	if r := plane.Do(t, made.Value, "DELETE", "/v1/sessions/current", nil); r.Status != 204 {
		t.Errorf("%d %s", r.Status, r.Body)
	}
	problem(t, plane.Do(t, made.Value, "GET", "/v1/info", nil), 401)
	if r := plane.Do(t, own, "GET", "/v1/info", nil); r.Status != 200 {
		t.Errorf("the token after its session: %d %s", r.Status, r.Body)
	}
}

// TestTokenSessionsOfOthers: who has a token sees the browsers that are signed in with it
// and ends them, whichever of its values they were begun with; an owner of every team all.
func TestTokenSessionsOfOthers(t *testing.T) {
	team := plane.NewTeam(t)
	own, other := token(t, team, control.RoleViewer), token(t, team, control.RoleOwner)
	begin := func(with string) (value, id string) {
		t.Helper()
		var made struct{ Value string }
		plane.Do(t, with, "POST", "/v1/sessions/token", nil).Into(t, 201, &made)
		for _, s := range sessions(t, made.Value) {
			if s.Current {
				return made.Value, s.ID
			}
		}
		t.Fatal("the session is not in its own list")
		return "", ""
	}
	first, firstID := begin(own)
	second, secondID := begin(own)
	_, theirs := begin(other)
	for _, asks := range []string{own, first, second} {
		var ids []string
		for _, s := range sessions(t, asks) {
			ids = append(ids, s.ID)
			if s.Token == "" || s.Email != "" || len(s.Grants) != 1 || s.Grants[0] != (control.Grant{Team: team.Name, Role: control.RoleViewer}) || s.Current != (asks == first && s.ID == firstID || asks == second && s.ID == secondID) {
				t.Errorf("listed is %+v", s)
			}
		}
		if strings.Join(ids, " ") != secondID+" "+firstID {
			t.Errorf("listed are %v, not %s and %s", ids, secondID, firstID)
		}
		problem(t, plane.Do(t, asks, "DELETE", "/v1/sessions/"+theirs, nil), 404)
	}
	alice, _ := person(t, "lists-"+team.Name+"@example.com", control.Grant{Team: team.Name, Role: control.RoleOwner})
	if l := sessions(t, alice); len(l) != 1 || l[0].Token != "" || !l[0].Current {
		t.Errorf("alice sees %+v", l)
	}
	problem(t, plane.Do(t, alice, "DELETE", "/v1/sessions/"+firstID, nil), 404)
	problem(t, plane.Do(t, own, "DELETE", "/v1/sessions/current", nil), 404)
	if r := plane.Do(t, first, "DELETE", "/v1/sessions/"+secondID, nil); r.Status != 204 {
		t.Errorf("%d %s", r.Status, r.Body)
	}
	problem(t, plane.Do(t, second, "GET", "/v1/info", nil), 401)
	all := plane.Do(t, plane.Owner, "GET", "/v1/sessions?limit=1000", nil)
	if !strings.Contains(all.Body, firstID) || !strings.Contains(all.Body, theirs) || strings.Contains(all.Body, secondID) || strings.Contains(all.Body, "sp_") {
		t.Errorf("the owner sees %s", all.Body)
	}
	if r := plane.Do(t, plane.Owner, "DELETE", "/v1/sessions/"+firstID, nil); r.Status != 204 {
		t.Errorf("%d %s", r.Status, r.Body)
	}
	problem(t, plane.Do(t, first, "GET", "/v1/info", nil), 401)

	// With an overlap the token has two values; without one the session is over with its own.
	rotated := func(body map[string]any) (value string) {
		t.Helper()
		var made struct{ Value string }
		name := sessions(t, other)[0].Token
		plane.Do(t, plane.Owner, "POST", team.Path("tokens/"+name+"/rotate"), body).Into(t, 200, &made)
		return made.Value
	}
	next := rotated(map[string]any{"overlap": "1h"})
	if l := sessions(t, next); len(l) != 1 || l[0].ID != theirs {
		t.Errorf("with the new value listed are %+v", l)
	}
	if r := plane.Do(t, plane.Owner, "DELETE", team.Path("tokens/"+sessions(t, next)[0].Token), nil); r.Status != 204 {
		t.Fatalf("%d %s", r.Status, r.Body)
	}
	if all := plane.Do(t, plane.Owner, "GET", "/v1/sessions?limit=1000", nil); strings.Contains(all.Body, theirs) {
		t.Error("a session of a token that is removed is listed")
	}
}

// sessions are those that are listed for whoever has that value.
func sessions(t *testing.T, value string) []control.Session {
	t.Helper()
	var page struct{ Items []control.Session }
	plane.Do(t, value, "GET", "/v1/sessions?limit=1000", nil).Into(t, 200, &page)
	return page.Items
}
