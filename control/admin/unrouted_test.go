package admin_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"sallyport/control/admin"
)

// TestEverythingWrongIsAProblem asks for what is not there, in ways that net/http, its
// mux and huma would each answer themselves.
func TestEverythingWrongIsAProblem(t *testing.T) {
	team := plane.NewTeam(t)
	for _, tc := range []struct {
		method, path string
		body         any
		status       int
	}{
		{"GET", "/", nil, 404},
		{"GET", "/v1", nil, 404},
		{"GET", "/v1/nothing", nil, 404},
		{"GET", "/v1/teams/", nil, 404},
		{"GET", "/v1//teams", nil, 404},
		{"GET", "/v1/./teams", nil, 404},
		{"GET", "/v1/x/../teams", nil, 404},
		{"GET", "/v1/x/%2e%2e/teams", nil, 404},
		{"POST", "//evil.example.com/v1/teams", `{"name":"x"}`, 404},
		{"GET", "/openapi.json/", nil, 404},
		{"DELETE", "/v1/teams", nil, 405},
		{"PATCH", "/v1/info", `{}`, 405},
		{"OPTIONS", "/v1/teams", nil, 405},
		{"POST", "/healthz", nil, 405},
		{"QUERY", team.Path("vaults"), nil, 405},
		{"POST", team.Path("vaults"), `{"name":"` + strings.Repeat("x", 150_000) + `"}`, 413},
		{"GET", team.Path("vaults?limit=many"), nil, 422},
		{"GET", team.Path("vaults?unknown=1"), nil, 422},
	} {
		r := plane.Do(t, plane.Owner, tc.method, tc.path, tc.body)
		problem(t, r, tc.status)
		if allow := r.Header.Get("Allow"); (tc.status == 405) != (allow != "") {
			t.Errorf("%s %s: Allow: %q", tc.method, tc.path, allow)
		}
	}
	for _, mediaType := range []string{"", "text/plain", "application/x-www-form-urlencoded", "application/json; charset", "application/jsonx"} {
		problem(t, plane.DoWith(t, plane.Owner, "POST", team.Path("vaults"), `{"name":"x"}`, http.Header{"Content-Type": {mediaType}}), 415)
	}
	if r := plane.Do(t, plane.Owner, "DELETE", "/v1/teams", nil); r.Header.Get("Allow") != "GET, HEAD, POST" {
		t.Errorf("Allow: %q", r.Header.Get("Allow"))
	}
	if r := plane.DoWith(t, plane.Owner, "GET", "/v1/info", nil, http.Header{"Accept": {"text/html"}}); r.Status != 200 || r.Header.Get("Content-Type") != "application/json" {
		t.Errorf("asked for HTML: %d %s", r.Status, r.Header.Get("Content-Type"))
	}
}

// A body that breaks off is no answer of 500.
func TestBodyThatBreaksOff(t *testing.T) {
	team := plane.NewTeam(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(plane.AdminURL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"name\":", team.Path("vaults"), plane.Owner)
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if r.StatusCode != 422 || r.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d %s", r.StatusCode, r.Header.Get("Content-Type"))
	}
}

// TestPanicIsAProblem has a handler fall over, with an answer held back and without.
func TestPanicIsAProblem(t *testing.T) {
	broken, err := admin.New(admin.Config{Store: plane.Store, Metrics: plane.Admin.Metrics, Log: plane.Admin.Log}) // no Sealer
	if err != nil {
		t.Fatal(err)
	}
	team := plane.NewTeam(t)
	for _, key := range []string{"", "key"} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("POST", (&url.URL{Path: team.Path("vaults")}).String(), strings.NewReader(`{"name":"x"}`))
		r.Header.Set("Authorization", "Bearer "+plane.Owner)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Idempotency-Key", key)
		broken.ServeHTTP(w, r)
		if w.Code != 500 || w.Header().Get("Content-Type") != "application/problem+json" || !strings.Contains(w.Body.String(), w.Header().Get("X-Request-Id")) {
			t.Errorf("with the key %q: %d %s", key, w.Code, w.Body)
		}
	}
}
