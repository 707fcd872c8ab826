package sidecar

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"sallyport/control/api"
	"sallyport/sidecar/scan"
)

func outgoing(t *testing.T, target, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequest("POST", "https://api.example.com"+target, io.NopCloser(strings.NewReader(body)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestStrayPlaceholderIsBlockedWhereverItStands(t *testing.T) {
	scanner := scan.New([]string{"vault:stripe"})
	for name, edit := range map[string]func(*http.Request){
		"path":            func(r *http.Request) { r.URL.Path = "/a/vault:stripe" },
		"escaped path":    func(r *http.Request) { r.URL.Path, r.URL.RawPath = "/a/vault:stripe/é", "/a/vault%3Astripe/%C3%A9" },
		"query":           func(r *http.Request) { r.URL.RawQuery = "k=vault%3astripe" },
		"header":          func(r *http.Request) { r.Header.Set("X-Note", "see vault:stripe") },
		"second value":    func(r *http.Request) { r.Header["X-Note"] = []string{"a", "vault:stripe"} },
		"base64 in Basic": func(r *http.Request) { r.SetBasicAuth("vault:stripe", "") },
		"body":            func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("say vault:stripe twice")) },
		"trailer":         func(r *http.Request) { r.Trailer = http.Header{"X-Sum": {"vault:stripe"}} },
	} {
		t.Run(name, func(t *testing.T) {
			r := outgoing(t, "/", "body")
			edit(r)
			err := strayPlaceholders(r, scanner, api.Stray_STRAY_BLOCK)
			if err == nil {
				_, err = io.ReadAll(r.Body)
			}
			var stray *scan.StrayError
			if !errors.As(err, &stray) || stray.Placeholder != "vault:stripe" {
				t.Errorf("got %v, want a stray placeholder", err)
			}
		})
	}
}

func TestStrayPlaceholderIsMaskedInPlace(t *testing.T) {
	scanner := scan.New([]string{"vault:stripe"})
	r := outgoing(t, "/a%20b/vault:stripe?q=vault:stripe&x=%zz", "say vault:stripe twice")
	r.Header.Set("X-Note", "see vault:stripe")
	r.Trailer = http.Header{"X-Sum": {"vault:stripe"}}
	if err := strayPlaceholders(r, scanner, api.Stray_STRAY_REDACT); err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	mask := strings.Repeat("*", len("vault:stripe"))
	for what, got := range map[string][2]string{
		"target":  {r.URL.RequestURI(), "/a%20b/" + mask + "?q=" + mask + "&x=%zz"},
		"header":  {r.Header.Get("X-Note"), "see " + mask},
		"body":    {string(body), "say " + mask + " twice"},
		"trailer": {r.Trailer.Get("X-Sum"), mask},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: got %q, want %q", what, got[0], got[1])
		}
	}
}

func TestLiteralPlaceholderPasses(t *testing.T) {
	r := outgoing(t, "/vault:stripe", "vault:stripe")
	if err := strayPlaceholders(r, scan.New([]string{"vault:stripe"}), api.Stray_STRAY_LITERAL); err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(r.Body); err != nil || string(body) != "vault:stripe" || r.URL.Path != "/vault:stripe" {
		t.Errorf("%s %q, %v", r.URL.Path, body, err)
	}
}
