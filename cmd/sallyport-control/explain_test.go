package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"sallyport/control"
)

// What is explained is what a sidecar would do.
func TestExplain(t *testing.T) {
	p := serve(t, laid(t))
	const team = "/v1/teams/default"
	for _, r := range [][3]string{
		{"POST", "/vaults", `{"name": "v"}`},
		{"POST", "/vaults/v/credentials", `{"name": "x", "hosts": ["api.example.com"], "secret": "a-secret-of-some-length",
			"limits": {"methods": ["GET", "POST"], "paths": ["/v1"], "budget": "10/day", "approve": "each"}, "mints": ["refuse POST /v1/keys"]}`},
		{"POST", "/agents", `{"name": "a"}`},
		{"PUT", "/agents/a/pins/v", ""},
	} {
		if status, body := p.call(t, r[0], team+r[1], r[2]); status/100 != 2 {
			t.Fatalf("%v: %d %s", r, status, body)
		}
	}
	for _, tt := range []struct{ method, url, decision, code string }{
		{"GET", "https://api.example.com/v1/x?q=1", "inject", ""},
		{"GET", "https://API.example.com:443/v1", "inject", ""},
		{"DELETE", "https://api.example.com/v1/x", "refuse", "limit_method"},
		{"GET", "https://api.example.com/v10", "refuse", "limit_path"},
		{"GET", "https://api.example.com/v1/..;/x", "refuse", "bad_path"},
		{"POST", "https://api.example.com/v1/keys", "refuse", "mint_refused"},
		{"GET", "http://api.example.com/v1", "inspect", ""},
		{"GET", "https://other.example.com/", "inspect", ""},
		{"GET", "https://api.example.com:8443/v1", "refuse", "port_refused"},
	} {
		status, body := p.call(t, "POST", team+"/agents/a/explain", fmt.Sprintf(`{"method": %q, "url": %q}`, tt.method, tt.url))
		var e control.Explanation
		if err := json.Unmarshal([]byte(body), &e); err != nil || status != 200 || e.Decision != tt.decision || e.Code != tt.code || e.Reason == "" {
			t.Errorf("%s %s: %d %s", tt.method, tt.url, status, body)
		}
		if e.Decision == "inject" && (e.Credential != "v/x" || len(e.Inject) != 1 || e.Inject[0] != "bearer" || e.Limits == "" || len(e.Notes) != 2 || e.Overlap != nil) {
			t.Errorf("%s %s: %+v", tt.method, tt.url, e)
		}
	}
	for _, url := range []string{"ftp://api.example.com/", "api.example.com", "https://u:p@api.example.com/", "https:///x", "https://api.example.com:0/"} {
		if status, body := p.call(t, "POST", team+"/agents/a/explain", fmt.Sprintf(`{"method": "GET", "url": %q}`, url)); status != 422 {
			t.Errorf("%s: %d %s", url, status, body)
		}
	}
	p.explainsPresent(t, team)
	if status := p.end(t, syscall.SIGTERM); status != 0 {
		t.Errorf("status %d", status)
	}
}

// explainsPresent: an overlap, what is used up, and what is missing are said too.
func (p *program) explainsPresent(t *testing.T, team string) {
	t.Helper()
	must := func(method, path, body string) {
		t.Helper()
		if status, answer := p.call(t, method, team+path, body); status/100 != 2 {
			t.Fatalf("%s %s: %d %s", method, path, status, answer)
		}
	}
	explain := func(method, url string) (e control.Explanation) {
		t.Helper()
		status, body := p.call(t, "POST", team+"/agents/a/explain", fmt.Sprintf(`{"method": %q, "url": %q}`, method, url))
		if err := json.Unmarshal([]byte(body), &e); err != nil || status != 200 {
			t.Fatalf("%s %s: %d %s", method, url, status, body)
		}
		return e
	}
	noted := func(e control.Explanation, want string) {
		t.Helper()
		if !strings.Contains(strings.Join(e.Notes, "\n"), want) {
			t.Errorf("it says %+v, without %q", e, want)
		}
	}
	must("POST", "/vaults/v/credentials", `{"name": "y", "hosts": ["y.invalid"], "secret": "a-secret-of-some-length", "limits": {"rate": "1/min"}, "mints": ["strip PUT /v1/keys json:/key"]}`)
	must("POST", "/vaults/v/credentials", `{"name": "once", "hosts": ["once.invalid"], "secret": "a-secret-of-some-length", "limits": {"budget": "1"}}`)
	must("POST", "/vaults/v/credentials/y/rotate", `{"secret": "another-secret-of-some-length", "overlap": "10m"}`)
	if e := explain("GET", "https://y.invalid/v1"); e.Version != 2 || e.Overlap == nil || e.Overlap.Version != 1 {
		t.Errorf("in an overlap: %+v", e)
	}
	for method, why := range map[string]string{"POST": "a POST is sent once", "PUT": "what makes new secrets is sent once"} {
		e := explain(method, "https://y.invalid/v1/keys")
		if e.Overlap != nil {
			t.Errorf("%s in an overlap: %+v", method, e)
		}
		noted(e, why)
	}
	must("DELETE", "/vaults/v/credentials/y/overlap", "")
	if e := explain("GET", "https://y.invalid/v1"); e.Overlap != nil || len(e.Notes) != 0 {
		t.Errorf("after the overlap: %+v", e)
	}

	noted(explain("GET", "https://once.invalid/"), "1 are left")
	must("POST", "/vaults/v/credentials/once/test", `{}`)
	if e := explain("GET", "https://once.invalid/"); e.Decision != "refuse" || e.Code != "limit_budget" || !strings.Contains(e.Reason, "for good") {
		t.Errorf("with the budget used up: %+v", e)
	}
	must("PATCH", "/quota", `{"events": 0}`)
	noted(explain("GET", "https://y.invalid/v1"), "sallyport quota set --events")
}
