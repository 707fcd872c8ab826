package admin_test

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
	"sallyport/control/admin"
	"sallyport/control/controltest"
)

// post sends a body with an idempotency key as token, and gives the whole answer.
func post(t *testing.T, token, path, key, body string) controltest.Response {
	t.Helper()
	return plane.DoWith(t, token, "POST", path, body, http.Header{"Idempotency-Key": {key}})
}

// TestIdempotency sends every creating POST twice, as after a lost answer, and then with
// another body.
func TestIdempotency(t *testing.T) {
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_1")
	team.Must(t, "POST", "tokens", map[string]any{"name": "old", "role": "viewer"}, nil)
	for path, body := range map[string]string{
		team.Path("vaults"):                             `{"name":"idem"}`,
		team.Path("vaults/v/credentials"):               `{"name":"idem","hosts":["idem.example.com"],"secret":"sk_live_idempotent"}`,
		team.Path("vaults/v/credentials/stripe/rotate"): `{"secret":"sk_live_idempotent2","overlap":"10m"}`,
		team.Path("vaults/v/sources"):                   `{"name":"idem","kind":"vault","settings":{"address":"https://vault.example.com"},"secret":"hvs.idempotent"}`,
		team.Path("agents"):                             `{"name":"idem"}`,
		team.Path("agents/a/sandboxes"):                 ``,
		team.Path("tokens"):                             `{"name":"idem","role":"viewer"}`,
		team.Path("tokens/old/rotate"):                  `{"overlap":"1h"}`,
		"/v1/teams":                                     `{"name":"` + team.Name + `-idem"}`,
		"/v1/tokens":                                    `{"name":"` + team.Name[:30] + `x","role":"viewer"}`,
		"/v1/tokens/" + team.Name[:30] + "x/rotate":     `{}`,
	} {
		if strings.HasPrefix(path, "/v1/tokens/") {
			defer plane.Do(t, plane.Owner, "DELETE", strings.TrimSuffix(path, "/rotate"), nil)
			continue // made by the one before it, perhaps
		}
		key := "key of " + path
		key = strings.ReplaceAll(key, " ", "-")
		before := len(team.Events(t))
		first := post(t, plane.Owner, path, key, body)
		if first.Status/100 != 2 || first.Header.Get("Idempotent-Replayed") != "" {
			t.Errorf("%s: %d %s", path, first.Status, first.Body)
			continue
		}
		after := len(team.Events(t))
		again := post(t, plane.Owner, path, key, body)
		if again.Status != first.Status || again.Body != first.Body || again.Header.Get("Idempotent-Replayed") != "true" || again.Header.Get("ETag") != first.Header.Get("ETag") {
			t.Errorf("%s again: %d %s\nat first %d %s", path, again.Status, again.Body, first.Status, first.Body)
		}
		if twice := len(team.Events(t)); twice != after || strings.Contains(path, team.Name) && after != before+1 {
			t.Errorf("%s: %d events, then %d, then %d", path, before, after, twice)
		}
		if other := post(t, plane.Owner, path, key, strings.Replace(body+" ", "idem", "other", 1)); other.Status != 422 || !strings.Contains(other.Body, "another request") {
			t.Errorf("%s with another body: %d %s", path, other.Status, other.Body)
		}
		if elsewhere := post(t, plane.Owner, path+"?wait=1s", key, body); elsewhere.Status != 422 {
			t.Errorf("%s at another place: %d %s", path, elsewhere.Status, elsewhere.Body)
		}
	}
}

// TestIdempotencyKeysAreTheCallers: what one token did with a key is nothing to another.
func TestIdempotencyKeysAreTheCallers(t *testing.T) {
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_1")
	one, other := token(t, team, control.RoleMember), token(t, team, control.RoleMember)
	first := post(t, one, team.Path("agents/a/sandboxes"), "k", "")
	second := post(t, other, team.Path("agents/a/sandboxes"), "k", "")
	if first.Status != 201 || second.Status != 201 || first.Body == second.Body || second.Header.Get("Idempotent-Replayed") != "" {
		t.Errorf("the one: %d %s\nthe other: %d %s", first.Status, first.Body, second.Status, second.Body)
	}
	stranger := post(t, token(t, plane.NewTeam(t), control.RoleOwner), team.Path("agents/a/sandboxes"), "k", "")
	if stranger.Status != 404 {
		t.Errorf("another team: %d %s", stranger.Status, stranger.Body)
	}
	if viewer := post(t, token(t, team, control.RoleViewer), team.Path("agents/a/sandboxes"), "k", ""); viewer.Status != 403 {
		t.Errorf("a viewer: %d %s", viewer.Status, viewer.Body)
	}
}

// TestIdempotencyOfMany: of many at once one is done, and all are answered alike.
func TestIdempotencyOfMany(t *testing.T) {
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_1")
	answers := make([]controltest.Response, 30)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() { answers[i] = post(t, plane.Owner, team.Path("agents/a/sandboxes"), "many-"+team.Name, "") })
	}
	wg.Wait()
	replayed := 0
	for _, a := range answers {
		if a.Status != 201 || a.Body != answers[0].Body {
			t.Errorf("%d %s", a.Status, a.Body)
		}
		if a.Header.Get("Idempotent-Replayed") != "" {
			replayed++
		}
	}
	var page struct{ Items []control.Sandbox }
	team.Must(t, "GET", "sandboxes", nil, &page)
	if replayed != len(answers)-1 || len(page.Items) != 1 {
		t.Errorf("%d of %d were not done again, and there are %d sandboxes", replayed, len(answers), len(page.Items))
	}
}

// TestIdempotencyKeepsNoSecret: neither what was sent nor what was answered can be read
// in the database, nor be found by trying.
func TestIdempotencyKeepsNoSecret(t *testing.T) {
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_1")
	made := post(t, plane.Owner, team.Path("agents/a/sandboxes"), "secret-"+team.Name, "")
	rotated := post(t, plane.Owner, team.Path("vaults/v/credentials/stripe/rotate"), "secret2-"+team.Name, `{"secret":"hunter2-hunter2-hunter2"}`)
	if made.Status != 201 || rotated.Status != 200 || !strings.Contains(made.Body, "sp_join_") {
		t.Fatalf("%+v, %+v", made, rotated)
	}
	join := made.Body[strings.Index(made.Body, "sp_join_"):][:40]
	conn, err := pgx.Connect(t.Context(), plane.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var dump []byte
	var complete int
	if err := conn.QueryRow(t.Context(), `select string_agg(token_hash || key || request || answer, ''), count(answer) from idempotency_keys`).Scan(&dump, &complete); err != nil {
		t.Fatal(err)
	}
	if complete < 2 {
		t.Fatalf("%d answers are kept", complete)
	}
	for _, secret := range []string{join, "hunter2", "Sandbox", "sandbox", team.Name} {
		if bytes.Contains(dump, []byte(secret)) {
			t.Errorf("the database shows %q", secret)
		}
	}
}

func TestIdempotencyKeyIsChecked(t *testing.T) {
	team := plane.NewTeam(t)
	for _, key := range []string{strings.Repeat("x", 256), "with space", "tab\there", "caf\u00e9"} {
		problem(t, post(t, plane.Owner, team.Path("vaults"), key, `{"name":"x"}`), 422)
	}
	// What failed may be tried again with the same key.
	problem(t, post(t, plane.Owner, team.Path("vaults"), "again-"+team.Name, `{"name":"UP"}`), 422)
	if r := post(t, plane.Owner, team.Path("vaults"), "again-"+team.Name, `{"name":"down"}`); r.Status != 201 {
		t.Errorf("%d %s", r.Status, r.Body)
	}
	problem(t, post(t, plane.Owner, team.Path("vaults"), "long-"+team.Name, `{"name":"`+strings.Repeat("x", 200_000)+`"}`), 413)
	problem(t, post(t, plane.Owner, team.Path("vaults"), "taken-"+team.Name, `{"name":"down"}`), 409)
	problem(t, post(t, admin.NewToken(), team.Path("vaults"), "again-"+team.Name, `{"name":"down"}`), 401)
}
