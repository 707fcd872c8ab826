package main

import (
	"encoding/json"
	"fmt"
	"syscall"
	"testing"

	"sallyport/control"
)

// What is explained is what a sidecar would do.
func TestExplain(t *testing.T) {
	p := serve(t, t.TempDir())
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
		if e.Decision == "inject" && (e.Credential != "v/x" || len(e.Inject) != 1 || e.Inject[0] != "bearer" || e.Limits == "" || len(e.Notes) != 1) {
			t.Errorf("%s %s: %+v", tt.method, tt.url, e)
		}
	}
	for _, url := range []string{"ftp://api.example.com/", "api.example.com", "https://u:p@api.example.com/", "https:///x", "https://api.example.com:0/"} {
		if status, body := p.call(t, "POST", team+"/agents/a/explain", fmt.Sprintf(`{"method": "GET", "url": %q}`, url)); status != 422 {
			t.Errorf("%s: %d %s", url, status, body)
		}
	}
	if status := p.end(t, syscall.SIGTERM); status != 0 {
		t.Errorf("status %d", status)
	}
}
