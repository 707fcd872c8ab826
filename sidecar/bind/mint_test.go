package bind

import (
	"errors"
	"strings"
	"testing"

	"sallyport/control/api"
)

// minting is a binding with rules that read ACTION METHOD PATH, refuse where
// there is no action.
func minting(name string, captured bool, rules ...string) *api.Binding {
	b := binding(name, false, "api.test")
	b.Captured = captured
	for _, text := range rules {
		fields := strings.Fields(text)
		if len(fields) == 2 {
			fields = append([]string{"refuse"}, fields...)
		}
		m := &api.Mint{Path: fields[2], Rule: text, Places: []*api.MintPlace{{Place: &api.MintPlace_Pointer{Pointer: "/key"}}}}
		if fields[1] != "*" {
			m.Methods = strings.Split(fields[1], ",")
		}
		m.Action = map[string]api.MintAction{
			"allow": api.MintAction_MINT_ACTION_ALLOW, "refuse": api.MintAction_MINT_ACTION_REFUSE,
			"strip": api.MintAction_MINT_ACTION_STRIP, "capture": api.MintAction_MINT_ACTION_CAPTURE,
		}[fields[0]]
		b.Mints = append(b.Mints, m)
	}
	return b
}

// mintOf is the rule for a request to api.test.
func mintOf(t testing.TB, tab *Table, b *api.Binding, method, path string) (*api.Mint, error) {
	t.Helper()
	permitted, err := tab.Permit(Request{Host: "api.test", Port: 443, TLS: true, Method: method, Path: path})
	if err != nil {
		t.Fatal(err)
	}
	return permitted.Mint(b)
}

// What nobody asked the policy about gets no credential that was captured, and no rule.
func TestNothingPermittedIsNothingCaptured(t *testing.T) {
	b := minting("a", true, "POST /v1/keys")
	var none Permitted
	if rule, err := none.Mint(b); rule != nil || err != nil || len(none.Captured()) != 0 {
		t.Errorf("%v, %v, %v", rule, err, none.Captured())
	}
}

func TestMint(t *testing.T) {
	b := minting("a", false, "allow POST /v1/keys/public", "refuse POST,PUT /v1/keys", "strip GET /v1/keys/*", "capture * /oauth/**", "refuse POST /v1/keys/**")
	tab := table(t, []*api.Binding{b})
	for _, tt := range []struct{ method, path, want string }{
		{"POST", "/v1/keys/public", ""},
		{"POST", "/v1/Keys/public", "refused"}, // what allows is read to the letter
		{"POST", "/v1/keys/public.json", "refused"},
		{"POST", "/v1/keys", "refused"},
		{"PUT", "/v1/keys/", "refused"},
		{"POST", "/V1/KEYS", "refused"},
		{"POST", "/v1/keys.json", "refused"},
		{"GET", "/v1/keys", ""},
		{"GET", "/v1/keys/1", "strip GET /v1/keys/*"},
		{"HEAD", "/v1/keys/1", "strip GET /v1/keys/*"},
		{"DELETE", "/oauth/token", "capture * /oauth/**"},
		{"POST", "/v1/charges", ""},
		{"POST", "//v1/keys", "crooked"},
		{"POST", "/v1/x/../keys", "crooked"},
		{"POST", "/v1%2fkeys", "crooked"},
		{"GET", "/v1//keys", "crooked"}, // which the rule for /v1/keys/* could be about
		{"DELETE", "/v1//keys", ""},
		{"POST", "/v1/projects/a%2Fb/issues", ""},
		{"POST", "/v1/keys/../charges", "crooked"},
	} {
		rule, err := mintOf(t, tab, b, tt.method, tt.path)
		var refused *RefusedMintError
		got := rule.GetRule()
		switch {
		case errors.Is(err, ErrPath):
			got = "crooked"
		case errors.As(err, &refused):
			got = "refused"
		}
		if got != tt.want {
			t.Errorf("%s %s: %q (%v), want %q", tt.method, tt.path, got, err, tt.want)
		}
	}
}

func TestMintOfAnotherKindIsRefused(t *testing.T) {
	for what, m := range map[string]*api.Mint{
		"no action":       {Path: "/x"},
		"a newer action":  {Path: "/x", Action: 99},
		"a newer place":   {Path: "/x", Action: api.MintAction_MINT_ACTION_STRIP, Places: []*api.MintPlace{{}}},
		"no place":        {Path: "/x", Action: api.MintAction_MINT_ACTION_CAPTURE},
		"a crooked path":  {Path: "/x/../y", Action: api.MintAction_MINT_ACTION_REFUSE},
		"a newer pattern": {Path: "/**/x", Action: api.MintAction_MINT_ACTION_REFUSE},
	} {
		b := binding("a", false, "api.test")
		b.Mints = []*api.Mint{m}
		if _, err := New([]*api.Binding{b}, nil, nil); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
}

// A captured credential is no tie, serves nobody who does not name it, and makes
// its host a bound one.
func TestCaptured(t *testing.T) {
	origin, exact, wild := binding("a", false, "api.test"), minting("a.key.1", true), binding("a.key.2", true, "*.example.test")
	wild.Captured = true
	tab, err := New([]*api.Binding{origin, exact, wild}, nil, &api.Policy{Default: api.Action_ACTION_DENY})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := tab.match("api.test", 443, true); b != origin || err != nil {
		t.Errorf("the origin's host is served by %v, %v", b, err)
	}
	if b, err := tab.match("x.example.test", 443, true); b != nil || err != nil {
		t.Errorf("a host of a captured one alone is served by %v, %v", b, err)
	}
	for _, tt := range []struct {
		host string
		port uint16
		tls  bool
		want *api.Binding
	}{
		{"api.test", 443, true, exact}, {"api.test", 80, false, nil}, {"x.example.test", 443, true, wild}, {"x.example.test", 80, false, wild},
		{"example.test", 443, true, nil}, {"a.b.example.test", 443, true, nil}, {"other.test", 443, true, nil},
	} {
		got := tab.capturedAt(tt.host, tt.port, tt.tls)
		if (tt.want == nil) != (len(got) == 0) || tt.want != nil && got[0] != tt.want {
			t.Errorf("%s:%d: %v", tt.host, tt.port, got)
		}
		permitted, err := tab.Permit(Request{Host: tt.host, Port: tt.port, TLS: tt.tls, Method: "GET", Path: "/"})
		if denied := err != nil; denied != (tt.want == nil) {
			t.Errorf("%s:%d: denied is %v", tt.host, tt.port, denied)
		}
		if len(permitted.Captured()) != len(got) {
			t.Errorf("%s:%d: %v for the request", tt.host, tt.port, permitted.Captured())
		}
	}
	if got := strings.Join(tab.CapturedPlaceholders(), " "); got != "vault:a.key.1 vault:a.key.2" {
		t.Errorf("placeholders %q", got)
	}
	if got := strings.Join(tab.Placeholders(), " "); got != "vault:a vault:a.key.1 vault:a.key.2" {
		t.Errorf("all placeholders %q", got)
	}
}
