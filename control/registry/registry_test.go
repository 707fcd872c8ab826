package registry_test

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/publicsuffix"

	"sallyport/control"
	"sallyport/control/api"
	"sallyport/control/registry"
)

func TestEveryService(t *testing.T) {
	r := load(t)
	var names, titles, placeholders []string
	hosts := make(map[string]string)
	for _, s := range r.Services() {
		t.Run(s.Name, func(t *testing.T) {
			if err := control.CheckName("service", s.Name); err != nil {
				t.Error(err)
			}
			if u, err := url.Parse(s.Docs); err != nil || u.Scheme != "https" {
				t.Errorf("docs %q is not an https address", s.Docs)
			}
			if s.Title == "" || len(s.Hosts) == 0 {
				t.Error("no title or no hosts")
			}
			for _, h := range s.Hosts {
				checkHost(t, h)
				if other, twice := hosts[h]; twice {
					t.Errorf("host %s is of %s too: which service is meant could not be told", h, other)
				}
				hosts[h] = s.Name
			}
			checkRules(t, s)
			checkPlaceholders(t, s)
			checkMints(t, s)
		})
		names, titles = append(names, s.Name), append(titles, s.Title)
		placeholders = append(placeholders, s.Placeholders...)
		if got, ok := r.Service(s.Name); !ok || got.Title != s.Title {
			t.Errorf("Service(%q) = %v, %v", s.Name, got, ok)
		}
	}
	if !slices.IsSorted(names) {
		t.Error("the services are not sorted by name")
	}
	for what, list := range map[string][]string{"title": titles, "placeholder": placeholders} {
		slices.Sort(list)
		if len(slices.Compact(slices.Clone(list))) != len(list) {
			t.Errorf("a %s is there twice", what)
		}
	}
	if _, ok := r.Service("no such service"); ok {
		t.Error("a service that is not there is found")
	}
}

func checkHost(t *testing.T, host string) {
	p, err := api.ParseHostPattern(host)
	if err != nil {
		t.Error(err)
		return
	}
	if p.String() != host {
		t.Errorf("host %q is not in its normal form %q", host, p)
	}
	if suffix, _ := publicsuffix.PublicSuffix(p.Name()); suffix == p.Name() {
		t.Errorf("host %q is a public suffix: strangers share it", host)
	}
	if p.Wildcard() {
		t.Errorf("host %q is a wildcard: a built-in service names its hosts", host)
	}
}

func checkRules(t *testing.T, s registry.Service) {
	basic := slices.ContainsFunc(s.Inject, func(r control.Rule) bool { return r.Kind == control.RuleBasic })
	if basic != (s.Auth == control.AuthBasic) {
		t.Error("the basic rule and basic authentication go together")
	}
	if s.Username != "" && s.Auth != control.AuthBasic {
		t.Error("a username without basic authentication")
	}
	if s.Auth != control.AuthBasic && s.Auth != control.AuthToken {
		t.Errorf("auth %q", s.Auth)
	}
	for _, r := range s.Inject {
		if r.Kind == control.RuleHeader && !r.Holds() {
			t.Errorf("%q overwrites what a newer client sends; use default:", r)
		}
	}
	if !slices.ContainsFunc(s.Inject, control.Rule.Holds) {
		t.Error("no rule holds the token")
	}
	if s.Stray != control.StrayBlock && s.Stray != control.StrayLiteral {
		t.Errorf("stray %q", s.Stray)
	}
}

func checkPlaceholders(t *testing.T, s registry.Service) {
	for _, p := range s.Placeholders {
		if err := control.CheckSecret(control.Secret(p)); err != nil {
			t.Error(err)
		}
		if len(p) < 16 {
			t.Errorf("placeholder %q is so short that it could be found by accident", p)
		}
		if l := strings.ToLower(p); !strings.Contains(l, "sallyport") && !strings.Contains(l, "5a11y907") && !strings.Contains(p, "U2FsbHlwb3J0") {
			t.Errorf("placeholder %q does not say that it is ours", p)
		}
	}
}

// The facts that a wrong entry would get wrong in the field.
func TestKnownServices(t *testing.T) {
	r := load(t)
	for _, tc := range []struct {
		name, host string
		rules      string
		stray      control.Stray
	}{
		{"stripe", "api.stripe.com", "bearer", control.StrayBlock},
		{"openai", "api.openai.com", "bearer", control.StrayLiteral},
		{"anthropic", "api.anthropic.com", "header:x-api-key: {{token}}|default:anthropic-version: 2023-06-01", control.StrayLiteral},
		{"github", "api.github.com", "bearer", control.StrayBlock},
		{"github-git", "github.com", "basic", control.StrayBlock},
		{"notion", "api.notion.com", "bearer|default:Notion-Version: 2022-06-28", control.StrayBlock},
		{"telegram", "api.telegram.org", "path:/bot{{token}}/{{path}}", control.StrayBlock},
		{"google-maps", "maps.googleapis.com", "query:key", control.StrayBlock},
		{"twilio", "api.twilio.com", "basic", control.StrayBlock},
		{"linear", "api.linear.app", "header:Authorization: {{token}}", control.StrayBlock},
	} {
		s, ok := r.Service(tc.name)
		if !ok {
			t.Errorf("%s is missing", tc.name)
			continue
		}
		var rules []string
		for _, rule := range s.Inject {
			rules = append(rules, rule.String())
		}
		if got := strings.Join(rules, "|"); s.Hosts[0] != tc.host || got != tc.rules || s.Stray != tc.stray {
			t.Errorf("%s: %s %s %s, want %s %s %s", tc.name, s.Hosts[0], got, s.Stray, tc.host, tc.rules, tc.stray)
		}
	}
}

// The flag is only where a WebSocket is needed.
func TestWebsocketServices(t *testing.T) {
	var names []string
	for _, s := range load(t).Services() {
		if s.AllowWebsocket {
			names = append(names, s.Name)
		}
	}
	if want := []string{"elevenlabs", "openai", "xai"}; !slices.Equal(names, want) {
		t.Errorf("%q allow WebSockets, want %q", names, want)
	}
}

func load(t *testing.T) *registry.Registry {
	t.Helper()
	r, err := registry.Load()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func checkMints(t *testing.T, s registry.Service) {
	if len(s.Mints) > control.MaxMints {
		t.Errorf("%d mint rules", len(s.Mints))
	}
	for i, m := range s.Mints {
		if m.Action != control.MintRefuse {
			t.Errorf("%q: what becomes of new secrets is for the team to say", m)
		}
		if len(m.Methods) == 0 {
			t.Errorf("%q is about reading, too", m)
		}
		if _, err := api.ParseMintPath(m.Path); err != nil {
			t.Errorf("%q: %v", m, err)
		}
		for _, earlier := range s.Mints[:i] {
			if earlier.Path == m.Path {
				t.Errorf("%q comes after %q", m, earlier)
			}
		}
	}
}
