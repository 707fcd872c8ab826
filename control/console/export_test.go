package console_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"sallyport/control"
	"sallyport/control/api"
	"sallyport/control/console"
	"sallyport/control/controltest"
)

// exporting is a team with more events than one call of the API gives.
func exporting(t *testing.T) (team *controltest.Team, events int) {
	t.Helper()
	team = plane.NewTeam(t)
	team.Must(t, "POST", "agents", map[string]any{"name": "a"}, nil)
	sidecar := team.Join(t)
	for first := range 2 {
		var batch []*api.Event
		for i := range 600 {
			batch = append(batch, &api.Event{Sequence: uint64(600*first + i + 1), RequestId: "r", Host: "api.example.com", Method: "GET", Path: "/<script>\u202e", Decision: "inspect"})
		}
		if _, err := sidecar.Client.Report(t.Context(), connect.NewRequest(&api.ReportRequest{Events: batch})); err != nil {
			t.Fatal(err)
		}
	}
	events = int(team.Events(t)[0].ID)
	return team, events
}

// post sends what the page's form does.
func post(t *testing.T, at string, fields url.Values, b browser) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", at+"/console/export", strings.NewReader(fields.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range b.header {
		r.Header[name] = values
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Cookie", b.cookie)
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { answer.Body.Close() })
	return answer
}

// TestExport: all of a team's events as a file, in their order and with their hashes, or
// those that fit.
func TestExport(t *testing.T) {
	at := served(t)
	team, events := exporting(t)
	b, half := signIn(t, at, plane.Owner)
	page := browser{cookie: b.cookie, header: http.Header{"Sec-Fetch-Site": {"same-origin"}}}
	answer := post(t, at, url.Values{"key": {half}, "team": {team.Name}}, page)
	if kind := answer.Header.Get("Content-Disposition"); answer.StatusCode != 200 || !strings.HasPrefix(kind, `attachment; filename="sallyport-audit-`+team.Name+"-") || answer.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%s, %v", answer.Status, answer.Header)
	}
	n, lines := 0, bufio.NewScanner(answer.Body)
	for lines.Scan() {
		var e struct {
			ID   int
			Hash string
		}
		n++
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil || e.ID != n || len(e.Hash) != 64 {
			t.Fatalf("line %d is %s", n, lines.Text())
		}
	}
	if n < events || lines.Err() != nil {
		t.Errorf("there are %d events of %d: %v", n, events, lines.Err())
	}
	for _, none := range []url.Values{{"agent": {"nobody"}}, {"host": {"none.example.com"}}, {"decision": {"inject"}}, {"until": {"2020-01-01T00:00:00Z"}}, {"since": {"2099-01-01T00:00:00Z"}}} {
		none.Set("key", half)
		none.Set("team", team.Name)
		answer := post(t, at, none, page)
		if text, err := io.ReadAll(answer.Body); err != nil || answer.StatusCode != 200 || len(text) != 0 {
			t.Errorf("%v: %s %s, %v", none, answer.Status, text, err)
		}
	}
}

// TestExportIsForThePage alone, with both halves of a session, and for who may read.
func TestExportIsForThePage(t *testing.T) {
	at := served(t)
	team, other := plane.NewTeam(t), plane.NewTeam(t)
	b, half := signIn(t, at, tokenOf(t, team, control.RoleViewer))
	from := func(site string) http.Header { return http.Header{"Sec-Fetch-Site": {site}} }
	for what, tc := range map[string]struct {
		cookie string
		header http.Header
		fields url.Values
		status int
	}{
		"the page":                   {b.cookie, from("same-origin"), url.Values{"key": {half}, "team": {team.Name}}, 200},
		"the cookie alone":           {b.cookie, from("same-origin"), url.Values{"team": {team.Name}}, 401},
		"the page's half alone":      {"", from("same-origin"), url.Values{"key": {half}, "team": {team.Name}}, 401},
		"another half":               {b.cookie, from("same-origin"), url.Values{"key": {strings.Repeat("A", 21)}, "team": {team.Name}}, 401},
		"the half as a header":       {b.cookie, ofPage(half), url.Values{"team": {team.Name}}, 401},
		"a page of another site":     {b.cookie, from("cross-site"), url.Values{"key": {half}, "team": {team.Name}}, 403},
		"a page of another port":     {b.cookie, from("same-site"), url.Values{"key": {half}, "team": {team.Name}}, 403},
		"a form of another origin":   {b.cookie, http.Header{"Origin": {"https://evil.example.com"}}, url.Values{"key": {half}, "team": {team.Name}}, 403},
		"a form of no origin":        {b.cookie, http.Header{"Origin": {"null"}}, url.Values{"key": {half}, "team": {team.Name}}, 403},
		"a form in a frame":          {b.cookie, http.Header{"Origin": {"null"}, "Sec-Fetch-Site": {"cross-site"}}, url.Values{"key": {half}, "team": {team.Name}}, 403},
		"another team":               {b.cookie, from("same-origin"), url.Values{"key": {half}, "team": {other.Name}}, 404},
		"a team that is a path":      {b.cookie, from("same-origin"), url.Values{"key": {half}, "team": {"../" + team.Name}}, 422},
		"a name that ends the field": {b.cookie, from("same-origin"), url.Values{"key": {half}, "team": {"x\"; filename=\"y"}}, 422},
		"a time that is none":        {b.cookie, from("same-origin"), url.Values{"key": {half}, "team": {team.Name}, "since": {"yesterday"}}, 422},
		"more than a form":           {b.cookie, from("same-origin"), url.Values{"key": {half}, "team": {strings.Repeat("x", 9<<10)}}, 400},
	} {
		answer := post(t, at, tc.fields, browser{cookie: tc.cookie, header: tc.header})
		text, _ := io.ReadAll(answer.Body)
		if answer.StatusCode != tc.status || tc.status != 200 && (strings.Contains(string(text), `"hash"`) || answer.Header.Get("Content-Disposition") != "") {
			t.Errorf("%s: %s %v %.300s", what, answer.Status, answer.Header, text)
		}
	}
	if r := ask(t, "GET", at+"/console/export?key="+half+"&team="+team.Name, "", b); r.Status != 405 {
		t.Errorf("by an address: %d", r.Status)
	}
}

// TestExportBreaksOff: where the session ends in the midst, so does the file, and does not
// look whole.
func TestExportBreaksOff(t *testing.T) {
	team, _ := exporting(t)
	api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		plane.Admin.ServeHTTP(w, r)
		if strings.HasSuffix(r.URL.Path, "/follow") {
			plane.Do(t, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), "DELETE", "/v1/sessions/current", nil)
		}
	})
	c, err := console.New(api, "")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(c)
	defer server.Close()
	b, half := signIn(t, server.URL, plane.Owner)
	answer := post(t, server.URL, url.Values{"key": {half}, "team": {team.Name}}, browser{cookie: b.cookie, header: http.Header{"Sec-Fetch-Site": {"same-origin"}}})
	text, err := io.ReadAll(answer.Body)
	if err == nil || answer.StatusCode != 200 || strings.Count(string(text), "\n") != 1000 {
		t.Errorf("%s, %d lines, %v", answer.Status, strings.Count(string(text), "\n"), err)
	}
}

// TestExportTakesItsTime: what the server allows a request is for each part of an export,
// not for all of it.
func TestExportTakesItsTime(t *testing.T) {
	team, events := exporting(t)
	const patience = 300 * time.Millisecond
	api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/follow") {
			time.Sleep(2 * patience)
		}
		plane.Admin.ServeHTTP(w, r)
	})
	c, err := console.New(api, "")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(c)
	server.Config.ReadTimeout, server.Config.WriteTimeout = patience, patience
	server.Start()
	defer server.Close()
	b, half := signIn(t, served(t), plane.Owner) // which need not hurry
	answer := post(t, server.URL, url.Values{"key": {half}, "team": {team.Name}}, browser{cookie: b.cookie, header: http.Header{"Sec-Fetch-Site": {"same-origin"}}})
	text, err := io.ReadAll(answer.Body)
	if lines := strings.Count(string(text), "\n"); err != nil || lines < events {
		t.Errorf("%d lines of %d, %v", lines, events, err)
	}
}
