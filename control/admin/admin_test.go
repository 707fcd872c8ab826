package admin_test

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"

	"sallyport/control"
	"sallyport/control/admin"
	"sallyport/control/registry"
)

func TestCredentialIsComplete(t *testing.T) {
	team := plane.NewTeam(t)
	team.Must(t, "POST", "vaults", map[string]any{"name": "v"}, nil)
	for _, tc := range []struct {
		name     string
		body     map[string]any
		hosts    string
		rules    string
		auth     control.Auth
		stray    control.Stray
		username string
	}{
		{"a service", map[string]any{"service": "stripe"}, "api.stripe.com files.stripe.com", "bearer", "token", "block", ""},
		{"a model provider", map[string]any{"service": "anthropic"}, "api.anthropic.com", "header:x-api-key: {{token}} default:anthropic-version: 2023-06-01", "token", "literal", ""},
		{"a service at one's own host", map[string]any{"service": "gitlab", "hosts": []string{"Git.Corp.Example"}}, "git.corp.example", "header:PRIVATE-TOKEN: {{token}}", "token", "block", ""},
		{"a basic service", map[string]any{"service": "twilio", "username": "AC1"}, "api.twilio.com conversations.twilio.com lookups.twilio.com messaging.twilio.com verify.twilio.com", "basic", "basic", "block", "AC1"},
		{"a service with its own user", map[string]any{"service": "pypi"}, "upload.pypi.org", "basic", "basic", "block", "__token__"},
		{"a host", map[string]any{"hosts": []string{"api.example.com"}}, "api.example.com", "bearer", "token", "block", ""},
		{"a wildcard and a port", map[string]any{"hosts": []string{"*.api.example.com", "db.example.com:8443"}}, "*.api.example.com db.example.com:8443", "bearer", "token", "block", ""},
		{"a host of one label", map[string]any{"hosts": []string{"internal"}}, "internal", "bearer", "token", "block", ""},
		{"a host with basic", map[string]any{"hosts": []string{"a.example.com"}, "auth": "basic", "username": "bob"}, "a.example.com", "basic", "basic", "block", "bob"},
		{"a username says basic", map[string]any{"hosts": []string{"a.example.com"}, "username": "bob"}, "a.example.com", "basic", "basic", "block", "bob"},
		{"rules", map[string]any{"hosts": []string{"a.example.com"}, "inject": []string{"header:X-Key: {{token}}", "header:X-V: 1", "default:X-W: 2", "query:key"}, "stray": "redact"}, "a.example.com", "header:X-Key: {{token}} header:X-V: 1 default:X-W: 2 query:key", "token", "redact", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.body["name"], tc.body["secret"] = "x", "s3cret-of-x"
			var c control.Credential
			team.Must(t, "POST", "vaults/v/credentials", tc.body, &c)
			var rules []string
			for _, r := range c.Inject {
				rules = append(rules, r.String())
			}
			if strings.Join(c.Hosts, " ") != tc.hosts || strings.Join(rules, " ") != tc.rules || c.Auth != tc.auth || c.Stray != tc.stray || c.Username != tc.username ||
				c.Version != 1 || c.Vault != "v" || c.Placeholders[0] != "vault:x" {
				t.Errorf("the credential is %+v", c)
			}
			team.Must(t, "DELETE", "vaults/v/credentials/x", nil, nil)
		})
	}
}

func TestCredentialRefused(t *testing.T) {
	team := plane.NewTeam(t)
	team.Must(t, "POST", "vaults", map[string]any{"name": "v"}, nil)
	host := []string{"a.example.com"}
	for what, body := range map[string]map[string]any{
		"no host":                       {},
		"an unknown service":            {"service": "none"},
		"every host":                    {"hosts": []string{"*"}},
		"a top level":                   {"hosts": []string{"*.com"}},
		"a public suffix":               {"hosts": []string{"*.co.uk"}},
		"public suffixes below it":      {"hosts": []string{"*.run.app"}},
		"shared hosting":                {"hosts": []string{"*.github.io"}},
		"shared hosting, exact":         {"hosts": []string{"github.io"}},
		"a top level, exact":            {"hosts": []string{"com"}},
		"everybody's buckets":           {"hosts": []string{"*.s3.eu-west-1.amazonaws.com"}},
		"an address":                    {"hosts": []string{"10.0.0.1"}},
		"a URL":                         {"hosts": []string{"https://a.example.com"}},
		"a host twice":                  {"hosts": []string{"a.example.com", "A.example.com."}},
		"65 hosts":                      {"hosts": slices.Repeat(host, 65)},
		"a wrong rule":                  {"hosts": host, "inject": []string{"cookie"}},
		"a rule for Host":               {"hosts": host, "inject": []string{"header:Host: {{token}}"}},
		"no rule that holds it":         {"hosts": host, "inject": []string{"header:X-V: 1"}},
		"basic without basic":           {"hosts": host, "inject": []string{"basic"}},
		"basic without a username":      {"hosts": host, "auth": "basic"},
		"twilio without a username":     {"service": "twilio"},
		"a colon in the username":       {"hosts": host, "auth": "basic", "username": "a:b"},
		"a username of a token":         {"hosts": host, "auth": "token", "username": "a"},
		"two rules for one header":      {"hosts": host, "inject": []string{"header:X-Key: {{token}}", "header:x_key: 1"}},
		"a default that has it":         {"hosts": host, "inject": []string{"bearer", "default:X-V: {{token}}"}},
		"a default of a key":            {"hosts": host, "inject": []string{"query:key", "default:X-Api-Key: none"}},
		"only a default":                {"hosts": host, "inject": []string{"default:X-V: 1"}},
		"a default of a header set":     {"hosts": host, "inject": []string{"header:X-V: {{token}}", "default:x.v: 1"}},
		"two defaults for one header":   {"hosts": host, "inject": []string{"bearer", "default:X-V: 1", "default:x_v: 1"}},
		"basic and authorization":       {"hosts": host, "auth": "basic", "username": "a", "inject": []string{"basic", "bearer"}},
		"two paths":                     {"hosts": host, "inject": []string{"path:/a{{token}}/{{path}}", "path:/b{{token}}/{{path}}"}},
		"an unknown stray policy":       {"hosts": host, "stray": "maybe"},
		"a secret with a line break":    {"hosts": host, "secret": "abc\n"},
		"an empty secret":               {"hosts": host, "secret": ""},
		"a secret of 16 KiB and a byte": {"hosts": host, "secret": strings.Repeat("x", control.MaxSecretLength+1)},
	} {
		body["name"] = "x"
		if _, set := body["secret"]; !set {
			body["secret"] = "s3cret-of-x"
		}
		if r := team.Call(t, "POST", "vaults/v/credentials", body); r.Status != 422 {
			t.Errorf("%s: %d %s", what, r.Status, r.Body)
		}
	}
	longest := map[string]any{"name": "x", "hosts": host, "secret": strings.Repeat("\"", control.MaxSecretLength)}
	team.Must(t, "POST", "vaults/v/credentials", longest, nil)
}

func TestTieIsRefusedByName(t *testing.T) {
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_1")
	team.Must(t, "POST", "vaults", map[string]any{"name": "w"}, nil)
	team.Must(t, "POST", "vaults/w/credentials", map[string]any{"name": "other", "service": "stripe", "secret": "sk_live_2"}, nil)
	detail := problem(t, team.Call(t, "PUT", "agents/a/pins/w", nil), 409)
	if !strings.Contains(detail, "stripe") || !strings.Contains(detail, "other") {
		t.Errorf("it names not both: %s", detail)
	}
}

func TestPages(t *testing.T) {
	team := plane.NewTeam(t)
	if r := team.Call(t, "GET", "vaults", nil); strings.TrimSpace(r.Body) != `{"items":[]}` {
		t.Errorf("an empty list is %s", r.Body)
	}
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		team.Must(t, "POST", "vaults", map[string]any{"name": name}, nil)
	}
	var all []string
	after, pages := "", 0
	for {
		var page struct {
			Items []control.Vault
			Next  string
		}
		team.Must(t, "GET", "vaults?limit=2&after="+after, nil, &page)
		for _, v := range page.Items {
			all = append(all, v.Name)
		}
		pages++
		if after = page.Next; after == "" {
			break
		}
	}
	if !slices.Equal(all, []string{"a", "b", "c", "d", "e"}) || pages != 3 {
		t.Errorf("%q in %d pages", all, pages)
	}
	var services struct {
		Items []registry.Service
		Next  string
	}
	plane.Do(t, plane.Owner, "GET", "/v1/services?limit=3&after="+admin.Cursor("list-services", "github"), nil).Into(t, 200, &services)
	if len(services.Items) != 3 || services.Items[0].Name != "github-git" || services.Next != admin.Cursor("list-services", services.Items[2].Name) {
		t.Errorf("services %+v, next %s", services.Items, services.Next)
	}
}

func TestActsAreAudited(t *testing.T) {
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_1")
	id, _ := team.NewSandbox(t)
	team.Must(t, "POST", "vaults/v/credentials/stripe/rotate", map[string]any{"secret": "sk_live_2"}, nil)
	team.Must(t, "DELETE", "sandboxes/"+id, nil, nil)
	team.Must(t, "DELETE", "agents/a/pins/v", nil, nil)
	team.Must(t, "DELETE", "vaults/v", nil, nil)
	var acts []string
	for _, e := range slices.Backward(team.Events(t)) {
		if e.Actor != "token:owner" || e.RequestID == "" {
			t.Errorf("the event is %+v", e)
		}
		acts = append(acts, e.Kind+" "+e.Detail)
	}
	want := []string{
		"team.create " + team.Name, "vault.create v", "credential.create v/stripe", "agent.create a", "agent.pin a v",
		"sandbox.create a " + id, "credential.rotate v/stripe", "sandbox.revoke " + id, "agent.unpin a v", "vault.delete v",
	}
	if !slices.Equal(acts, want) {
		t.Errorf("the audit log has %q, want %q", acts, want)
	}
	if err := plane.Store.VerifyChain(t.Context(), team.ID); err != nil {
		t.Error(err)
	}
}

func TestHealth(t *testing.T) {
	if r := plane.Do(t, "", "GET", "/healthz", nil); r.Status != 200 {
		t.Errorf("healthz: %d", r.Status)
	}
	if r := plane.Do(t, "", "GET", "/readyz", nil); r.Status != 200 || strings.TrimSpace(r.Body) != `{"ready":true,"blockers":[]}` {
		t.Errorf("readyz: %d %s", r.Status, r.Body)
	}
	r := plane.Do(t, "", "GET", "/healthz", nil)
	if r.Header.Get("X-Request-Id") == "" || r.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("headers %v", r.Header)
	}
}

func TestPlainHTTPOnLoopbackOnly(t *testing.T) {
	listener, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if err := plane.Admin.Serve(context.Background(), listener, nil); err == nil || !strings.Contains(err.Error(), "plain HTTP") {
		t.Errorf("error %v", err)
	}
}
