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
