package console_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"sallyport/control"
	"sallyport/control/admin"
	"sallyport/control/console"
	"sallyport/control/controltest"
)

// signIn trades a token for a session and gives what a browser then has.
func signIn(t *testing.T, url, token string) (b browser, half string) {
	t.Helper()
	r := ask(t, "POST", url+"/console/session", "", browser{header: http.Header{"Authorization": {"Bearer " + token}, "Sec-Fetch-Site": {"same-origin"}}})
	var begun struct{ Key string }
	r.Into(t, 201, &begun)
	cookies := (&http.Response{Header: r.Header}).Cookies()
	if len(cookies) != 1 || len(begun.Key) != 21 {
		t.Fatalf("cookies %v, key %q", cookies, begun.Key)
	}
	return browser{cookie: cookies[0].Name + "=" + cookies[0].Value, header: ofPage(begun.Key)}, begun.Key
}

// ofPage are the headers of the console's own pages.
func ofPage(half string) http.Header {
	return http.Header{"Sallyport-Session": {half}, "Sec-Fetch-Site": {"same-origin"}}
}

// TestCookie: no script reads it, no plain connection and no other site has it sent, and
// nobody but this host sets it.
func TestCookie(t *testing.T) {
	url := served(t)
	r := ask(t, "POST", url+"/console/session", "", browser{header: http.Header{"Authorization": {"Bearer " + plane.Owner}}})
	cookie := r.Header.Get("Set-Cookie")
	if !regexp.MustCompile(`^__Host-sallyport=sp_session_[A-Za-z0-9_-]{22}; Path=/; HttpOnly; Secure; SameSite=Strict$`).MatchString(cookie) {
		t.Errorf("the cookie is %q", cookie)
	}
	if r.Header.Get("Cache-Control") != "no-store" || strings.Contains(r.Body, "sp_") || strings.Contains(r.Body, plane.Owner) {
		t.Errorf("the page is told %s, %v", r.Body, r.Header)
	}
	for _, token := range []string{"", "sp_", admin.NewToken(), "sp_session_" + strings.Repeat("x", 43)} {
		r := ask(t, "POST", url+"/console/session", "", browser{header: http.Header{"Authorization": {"Bearer " + token}}})
		if r.Status != 401 || r.Header.Get("Set-Cookie") != "" || !strings.Contains(r.Body, `"code":"unauthenticated"`) {
			t.Errorf("with the token %q: %d %s %v", token, r.Status, r.Body, r.Header)
		}
	}
}

// TestHalves: neither half of a session is worth anything, wherever it is sent.
func TestHalves(t *testing.T) {
	url := served(t)
	b, half := signIn(t, url, plane.Owner)
	if r := ask(t, "GET", url+"/console/v1/info", "", b); r.Status != 200 {
		t.Fatalf("both halves: %d %s", r.Status, r.Body)
	}
	_, value, _ := strings.Cut(b.cookie, "=")
	another, _ := signIn(t, url, plane.Owner)
	for what, wrong := range map[string]browser{
		"the cookie alone":             {cookie: b.cookie, header: http.Header{"Sec-Fetch-Site": {"same-origin"}}},
		"the page's half alone":        {header: ofPage(half)},
		"halves of two sessions":       {cookie: another.cookie, header: ofPage(half)},
		"the cookie and a guess":       {cookie: b.cookie, header: ofPage(strings.Repeat("A", 21))},
		"an empty half":                {cookie: b.cookie + half, header: ofPage("")},
		"all of it in the cookie":      {cookie: b.cookie + half, header: http.Header{}},
		"two cookies":                  {cookie: another.cookie + "; " + b.cookie, header: ofPage(half)},
		"a cookie of another name":     {cookie: "sallyport=" + value, header: ofPage(half)},
		"the cookie as a bearer":       {header: http.Header{"Authorization": {"Bearer " + value}}},
		"all of it as the page's half": {header: ofPage(value + half)},
	} {
		if r := ask(t, "GET", url+"/console/v1/info", "", wrong); r.Status != 401 {
			t.Errorf("%s: %d %s", what, r.Status, r.Body)
		}
	}
	// The API itself takes none.
	if r := ask(t, "GET", url+"/v1/info", "", b); r.Status != 401 {
		t.Errorf("the API with a browser's session: %d", r.Status)
	}
	// And the console takes no token by which a page could get around the session.
	if r := ask(t, "GET", url+"/console/v1/info", "", browser{header: http.Header{"Authorization": {"Bearer " + plane.Owner}}}); r.Status != 401 {
		t.Errorf("the console with a token: %d", r.Status)
	}
}

// changing are all operations that change something, as METHOD and path.
func changing(t *testing.T, team string) (all [][2]string) {
	t.Helper()
	var doc struct {
		Paths map[string]map[string]json.RawMessage
	}
	plane.Do(t, "", "GET", "/openapi.json", nil).Into(t, 200, &doc)
	for path, methods := range doc.Paths {
		for method := range methods {
			if method != "get" {
				path := regexp.MustCompile(`\{[a-z]+\}`).ReplaceAllString(strings.ReplaceAll(path, "{team}", team), "x")
				all = append(all, [2]string{strings.ToUpper(method), path})
			}
		}
	}
	if len(all) < 25 {
		t.Fatalf("only %d operations change something", len(all))
	}
	return append(all, [2]string{"POST", "/session"}, [2]string{"DELETE", "/session"}, [2]string{"POST", "/export"})
}

// TestNoOtherPageActs: each call that changes something, made by a page of another origin
// in a browser that is signed in, even if that page knew the other half.
func TestNoOtherPageActs(t *testing.T) {
	url := served(t)
	team := plane.NewTeam(t)
	b, half := signIn(t, url, plane.Owner)
	for _, op := range changing(t, team.Name) {
		path := url + "/console" + op[1]
		for what, header := range map[string]http.Header{
			"another site":               {"Sec-Fetch-Site": {"cross-site"}, "Origin": {"https://evil.example.com"}},
			"another port":               {"Sec-Fetch-Site": {"same-site"}, "Origin": {"http://127.0.0.1:1"}},
			"an address typed in":        {"Sec-Fetch-Site": {"none"}},
			"an old browser":             {"Origin": {"https://evil.example.com"}},
			"a sandboxed frame":          {"Origin": {"null"}},
			"a name that begins as ours": {"Origin": {url + ".evil.example.com"}},
			"two that differ":            {"Sec-Fetch-Site": {"same-origin"}, "Origin": {"https://evil.example.com"}},
		} {
			header.Set("Sallyport-Session", half)
			if r := ask(t, op[0], path, `{"name":"forged","secret":"forged"}`, browser{cookie: b.cookie, header: header}); r.Status != 403 || !strings.Contains(r.Body, "another origin") || r.Header.Get("Set-Cookie") != "" {
				t.Errorf("%s %s by %s: %d %s", op[0], op[1], what, r.Status, r.Body)
			}
		}
		if strings.HasPrefix(op[1], "/session") || strings.HasPrefix(op[1], "/v1/sessions") || strings.HasPrefix(op[1], "/v1/login") {
			continue // are for who has none
		}
		// A form, an image, a link: they have the cookie, and no header.
		if r := ask(t, op[0], path, `{"name":"forged"}`, browser{cookie: b.cookie}); r.Status != 401 {
			t.Errorf("%s %s with the cookie alone: %d %s", op[0], op[1], r.Status, r.Body)
		}
	}
	for _, e := range team.Events(t) {
		if e.Kind != "team.create" {
			t.Errorf("there is the event %+v", e)
		}
	}
	// Reading neither; and what a page must ask first is not answered.
	if r := ask(t, "GET", url+"/console/v1/teams", "", browser{cookie: b.cookie, header: http.Header{"Sallyport-Session": {half}, "Sec-Fetch-Site": {"cross-site"}}}); r.Status != 403 {
		t.Errorf("reading: %d", r.Status)
	}
	preflight := http.Header{"Origin": {"https://evil.example.com"}, "Access-Control-Request-Method": {"POST"}, "Access-Control-Request-Headers": {"sallyport-session"}}
	if r := ask(t, "OPTIONS", url+"/console/v1/teams", "", browser{cookie: b.cookie, header: preflight}); r.Status/100 == 2 || r.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("a preflight: %d %v", r.Status, r.Header)
	}
	if r := ask(t, "GET", url+"/console/v1/info", "", b); r.Status != 200 {
		t.Errorf("the session itself: %d", r.Status)
	}
}

// TestSessionEnds: by signing out, with its token, with a value of it that is replaced.
func TestSessionEnds(t *testing.T) {
	url := served(t)
	team := plane.NewTeam(t)
	made := func(name string) string {
		var token struct{ Value string }
		team.Must(t, "POST", "tokens", map[string]any{"name": name, "role": "admin"}, &token)
		return token.Value
	}
	over := func(what string, b browser) {
		t.Helper()
		if r := ask(t, "GET", url+"/console/v1/info", "", b); r.Status != 401 {
			t.Errorf("%s: %d %s", what, r.Status, r.Body)
		}
	}
	b, _ := signIn(t, url, made("one"))
	r := ask(t, "DELETE", url+"/console/session", "", b)
	if r.Status != 204 || !strings.HasPrefix(r.Header.Get("Set-Cookie"), "__Host-sallyport=; Path=/; Max-Age=0;") {
		t.Errorf("signed out: %d %v", r.Status, r.Header)
	}
	over("signed out", b)
	if r := ask(t, "DELETE", url+"/console/session", "", b); r.Status != 204 {
		t.Errorf("signed out again: %d %s", r.Status, r.Body)
	}
	b, _ = signIn(t, url, made("two"))
	team.Must(t, "POST", "tokens/two/rotate", map[string]any{"overlap": "1h"}, nil)
	if r := ask(t, "GET", url+"/console/v1/info", "", b); r.Status != 200 {
		t.Errorf("while the value is good: %d", r.Status)
	}
	team.Must(t, "POST", "tokens/two/rotate", map[string]any{}, nil)
	over("the value was replaced", b)
	b, _ = signIn(t, url, made("three"))
	team.Must(t, "DELETE", "tokens/three", nil, nil)
	over("the token was removed", b)
}

// TestRolesInTheBrowser: a session is what its token is, in its team, and no more. What
// the page shows decides nothing.
func TestRolesInTheBrowser(t *testing.T) {
	url := served(t)
	one, two := plane.NewTeam(t), plane.NewTeam(t)
	session := func(team *controltest.Team, role control.Role) browser {
		var token struct{ Value string }
		team.Must(t, "POST", "tokens", map[string]any{"name": string(role), "role": role}, &token)
		b, _ := signIn(t, url, token.Value)
		return b
	}
	viewer, owner := session(one, control.RoleViewer), session(two, control.RoleOwner)
	for _, c := range []struct {
		by     browser
		method string
		path   string
		body   string
		status int
	}{
		{viewer, "GET", one.Path("vaults"), "", 200},
		{viewer, "POST", one.Path("vaults"), `{"name":"v"}`, 403},
		{viewer, "GET", one.Path("tokens"), "", 403},
		{viewer, "POST", one.Path("agents/x/sandboxes"), "", 403},
		{viewer, "GET", two.Path("vaults"), "", 404},
		{owner, "POST", two.Path("vaults"), `{"name":"v"}`, 201},
		{owner, "GET", one.Path("vaults"), "", 404},
		{owner, "POST", one.Path("vaults"), `{"name":"v"}`, 404},
		{owner, "POST", "/v1/teams", `{"name":"x"}`, 403},
		{owner, "GET", "/v1/keys", "", 403},
		{owner, "POST", "/v1/sessions/token", "", 403}, // a session begins none
	} {
		if r := ask(t, c.method, url+"/console"+c.path, c.body, c.by); r.Status != c.status {
			t.Errorf("%s %s: %d %s", c.method, c.path, r.Status, r.Body)
		}
	}
	events := two.Events(t)
	if events[0].Kind != "vault.create" || events[0].Actor != "token:"+two.Name+"/owner" {
		t.Errorf("the newest event is %+v", events[0])
	}
}

// TestPeopleInTheBrowser: a person's session is in two halves too, and ends as others do.
func TestPeopleInTheBrowser(t *testing.T) {
	url := served(t)
	value := "sp_session_" + strings.TrimPrefix(admin.NewToken(), "sp_")
	p := control.Person{Issuer: "https://issuer.example.com", Subject: "1", Email: "alice@example.com", Grants: []control.Grant{{Role: control.RoleViewer}}}
	if _, err := plane.Store.CreateSession(t.Context(), p, admin.HashToken(value), time.Hour, time.Hour, control.Event{Kind: "session.create", Actor: "system"}); err != nil {
		t.Fatal(err)
	}
	b := browser{cookie: "__Host-sallyport=" + value[:len(value)-21], header: ofPage(value[len(value)-21:])}
	if r := ask(t, "GET", url+"/console/v1/info", "", b); r.Status != 200 || !strings.Contains(r.Body, "alice@example.com") {
		t.Errorf("%d %s", r.Status, r.Body)
	}
	if r := ask(t, "POST", url+"/console/v1/sessions/token", "", b); r.Status != 403 {
		t.Errorf("a session that begins another: %d %s", r.Status, r.Body)
	}
	if r := ask(t, "DELETE", url+"/console/session", "", b); r.Status != 204 {
		t.Errorf("%d %s", r.Status, r.Body)
	}
	if r := ask(t, "GET", url+"/console/v1/info", "", b); r.Status != 401 {
		t.Errorf("after its end: %d", r.Status)
	}
}

// TestGuessesArePaced: who tries tokens here is held up as at the API.
func TestGuessesArePaced(t *testing.T) {
	config := plane.Admin.Config
	config.Strangers = admin.Pace{Rate: 0.001, Burst: 5}
	api, err := admin.New(config)
	if err != nil {
		t.Fatal(err)
	}
	c, err := console.New(api, "")
	if err != nil {
		t.Fatal(err)
	}
	counts := map[int]int{}
	for i := range 20 {
		w, r := httptest.NewRecorder(), httptest.NewRequest("POST", "http://127.0.0.1/console/session", nil)
		r.Header.Set("Authorization", "Bearer "+admin.NewToken())
		r.RemoteAddr = fmt.Sprintf("192.0.2.7:%d", 1000+i)
		c.ServeHTTP(w, r)
		counts[w.Code]++
		if w.Code == 429 && w.Header().Get("Retry-After") == "" {
			t.Error("it does not say when to come back")
		}
	}
	if counts[401] != 5 || counts[429] != 15 {
		t.Errorf("answers: %v", counts)
	}
}
