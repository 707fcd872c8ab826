package api_test

import (
	"testing"

	"sallyport/control/api"
)

func TestMintPath(t *testing.T) {
	for _, tt := range []struct {
		pattern, path     string
		narrowly, broadly bool
	}{
		{"/v1/keys", "/v1/keys", true, true},
		{"/v1/keys", "/v1/keys/", true, true},
		{"/v1/keys", "/V1/Keys", false, true},
		{"/v1/keys", "/v1/keys.json", false, true},
		{"/v1/keys", "/v1.json/keys", false, false},
		{"/v1/keys", "/v1/keys/1", false, false},
		{"/v1/keys", "/v1", false, false},
		{"/v1/keys", "/v1/%6beys", true, true},
		{"/", "/", true, true},
		{"/", "/x", false, false},
		{"/**", "/", true, true},
		{"/**", "/a/b", true, true},
		{"/v1/*/token", "/v1/a/token", true, true},
		{"/v1/*/token", "/v1/token", false, false},
		{"/v1/keys/**", "/v1/keys", true, true},
		{"/v1/keys/**", "/v1/keys/a/b", true, true},
		{"/v1/*:mint", "/v1/a@b.test:mint", true, true},
		{"/v1/*:mint", "/v1/a:mint2", false, false},
		{"/a*b*c", "/abc", true, true},
		{"/a*b*c", "/axxbxxc", true, true},
		{"/a*b*c", "/axxcxxb", false, false},
		{"/api/oauth.v2.access", "/api/oauth.v2.access", true, true},
		{"/api/oauth.v2.access", "/api/oauth.v2.access.json", false, true},
		{"/api/oauth.access", "/api/oauth.v2.access", false, false},
	} {
		p, err := api.ParseMintPath(tt.pattern)
		if err != nil {
			t.Fatal(err)
		}
		segments, err := api.PathSegments(tt.path)
		if err != nil {
			t.Fatal(err)
		}
		if narrowly, broadly := p.Match(segments, false), p.Match(segments, true); narrowly != tt.narrowly || broadly != tt.broadly {
			t.Errorf("%s and %s: narrowly %v, broadly %v", tt.pattern, tt.path, narrowly, broadly)
		}
	}
	for _, text := range []string{"", "v1", "/a//b", "/a/../b", "/**/a", "/a**", "/a?b", "/a%2fb"} {
		if _, err := api.ParseMintPath(text); err == nil {
			t.Errorf("%q is taken for a pattern", text)
		}
	}
}

// A crooked path that some server could take for one of the pattern's could be
// one; what has none of its words could not, however crooked.
func TestMintPathCould(t *testing.T) {
	p, err := api.ParseMintPath("/v1/api_keys/*:mint")
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{
		"//v1/api_keys/a:mint":             true,
		"/v1/x/../api_keys/a:mint":         true,
		"/v1/x/%2e%2e/api_keys/a:mint":     true,
		"/v1%2fapi_keys%2Fa:mint":          true,
		"/v1%252fapi%255fkeys/a:mint":      true,
		"/v1/api_keys;x=1/a:mint":          true,
		`/v1\api_keys\a:mint`:              true,
		"/v1/api%00_keys/a:mint":           true,
		"/V1/API_KEYS/a:MINT.":             true,
		"/v1/%EF%BD%81pi_keys/a:mint":      true, // a fullwidth letter
		"/v1/api_%u006beys/a:mint":         true,
		"/v1/%ff":                          true, // nobody knows
		"/v1/projects/group%2Fname/issues": false,
		"/api_keys/v1/../x":                false, // not in this order
		"/v1/api_keys/../charges":          false,
	} {
		if _, err := api.PathSegments(path); err == nil {
			t.Errorf("%q is not crooked", path)
		}
		if got := p.Could(path); got != want {
			t.Errorf("%q: %v, want %v", path, got, want)
		}
	}
}
