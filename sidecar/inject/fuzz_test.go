package inject

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"

	"sallyport/control"
	"sallyport/control/api"
)

// Whatever rule the control plane accepts and whatever secret it is for, what is
// written is one request with the host, method and fields that it had, and the one
// that the rule sets: no secret is part of the template, and no line is begun.
func FuzzTemplate(f *testing.F) {
	for _, rule := range []string{"bearer", "basic", "header:X-Api-Key: {{token}}", "header:A: {{token}} and {{token}}", "default:B: text", "query:key", "path:/bot{{token}}/{{path}}", "path:/{{path}}/x/{{token}}"} {
		f.Add(rule, []byte("sk_live_1"), "user")
		f.Add(rule, []byte("{{token}}{{path}}"), "{{token}}")
		f.Add(rule, []byte("a\r\nHost: b"), "x:y")
		f.Add(rule, []byte("a/../%2f?#&=;+ \x7f\xff"), "\x00")
	}
	f.Fuzz(func(t *testing.T, text string, token []byte, username string) {
		rule, err := control.ParseRule(text)
		if err != nil {
			return
		}
		rules := []*api.Rule{wireRule(rule)}
		m := api.Material{Token: token, Username: username}
		r, err := http.NewRequest("GET", "https://api.test/v1/a%2Fb?x=1", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Kept", "as it was")
		Clear(r, rules)
		if Apply(r, rules, m) != nil {
			return
		}
		var wire bytes.Buffer
		if err := r.Write(&wire); err != nil {
			t.Fatalf("%q with %q can't be written: %v", text, token, err)
		}
		in := bufio.NewReader(bytes.NewReader(wire.Bytes()))
		got, err := http.ReadRequest(in)
		if err != nil || in.Buffered() > 0 {
			t.Fatalf("%q with %q was written as %q: %v", text, token, &wire, err)
		}
		fields := 2 // User-Agent and X-Kept
		if rule.Kind == control.RuleHeader || rule.Kind == control.RuleDefault || rule.Kind == control.RuleBasic {
			fields++
		}
		if ruledTwice := strings.EqualFold(rule.Name, "User-Agent") || strings.EqualFold(rule.Name, "X-Kept"); ruledTwice {
			fields--
		}
		if got.Host != "api.test" || got.Method != "GET" || len(got.Header) != fields {
			t.Fatalf("%q with %q was written as %q", text, token, &wire)
		}
		if rule.Kind == control.RuleHeader {
			want := strings.Join(strings.Split(rule.Template, "{{token}}"), string(token)) // whatever slots the token has
			if value := got.Header.Get(rule.Name); value != strings.Trim(want, " \t") {
				t.Fatalf("%q with %q gave %q", text, token, value)
			}
		}
		if rule.Kind != control.RulePath && got.URL.EscapedPath() != "/v1/a%2Fb" || rule.Kind != control.RuleQuery && got.URL.RawQuery != "x=1" {
			t.Fatalf("%q with %q is for %s", text, token, got.RequestURI)
		}
	})
}

// wireRule is a rule as sidecars are told it.
func wireRule(r control.Rule) *api.Rule {
	switch r.Kind {
	case control.RuleHeader:
		return header(r.Name, r.Template)
	case control.RuleDefault:
		rule := header(r.Name, r.Template)
		rule.GetHeader().OnlyIfAbsent = true
		return rule
	case control.RuleSigV4:
		return sigv4Rules[0]
	case control.RuleClientCert:
		return &api.Rule{Place: &api.Rule_ClientCertificate_{ClientCertificate: &api.Rule_ClientCertificate{}}}
	case control.RuleCookie:
		return cookie(r.Name)
	case control.RuleQuery:
		return query(r.Name)
	case control.RulePath:
		return path(r.Template)
	}
	return &api.Rule{Place: &api.Rule_Basic_{Basic: &api.Rule_Basic{}}}
}
