package policy_test

import (
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sallyport/control"
	"sallyport/control/policy"
)

func TestCheckNormalises(t *testing.T) {
	got, err := policy.Check(control.Policy{Rules: []control.PolicyRule{{
		Action: "deny", Hosts: []string{"API.Example.com.", "api.example.com", "::ffff:192.0.2.1", "**.B.example"},
		Ports: []uint32{443, 443, 80}, Methods: []string{"GET", "GET"}, Paths: []string{"/v1", "/v1"},
	}}})
	want := control.Policy{Default: "inspect", Rules: []control.PolicyRule{{
		Action: "deny", Hosts: []string{"api.example.com", "192.0.2.1", "**.b.example"}, Ports: []uint32{443, 80}, Methods: []string{"GET"}, Paths: []string{"/v1"},
	}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	if got, err := policy.Check(control.Policy{}); err != nil || !reflect.DeepEqual(got, control.DefaultPolicy()) {
		t.Errorf("the empty policy is %+v, %v", got, err)
	}
}

func TestCheckRefuses(t *testing.T) {
	for says, p := range map[string]control.Policy{
		"default: the action must be":        {Default: "allow"},
		"rule 1, action: the action must be": {Rules: []control.PolicyRule{{}}},
		"rule 2, hosts: host \"a_b\"":        {Rules: []control.PolicyRule{{Action: "deny"}, {Action: "deny", Hosts: []string{"a_b"}}}},
		"rule 1, ports: 65536":               {Rules: []control.PolicyRule{{Action: "deny", Ports: []uint32{65536}}}},
		"rule 1, methods: what is passed":    {Rules: []control.PolicyRule{{Action: "passthrough", Methods: []string{"GET"}}}},
	} {
		if _, err := policy.Check(p); control.CodeOf(err) != control.CodeInvalid || !strings.HasPrefix(err.Error(), says) {
			t.Errorf("%+v: %v, want %s", p, err, says)
		}
	}
}

func TestParseRule(t *testing.T) {
	for text, want := range map[string]control.PolicyRule{
		"inspect pypi.org,files.pythonhosted.org GET,HEAD": {Action: "inspect", Hosts: []string{"pypi.org", "files.pythonhosted.org"}, Methods: []string{"GET", "HEAD"}},
		"passthrough *.pinned.example":                     {Action: "passthrough", Hosts: []string{"*.pinned.example"}},
		"deny api.stripe.com DELETE":                       {Action: "deny", Hosts: []string{"api.stripe.com"}, Methods: []string{"DELETE"}},
		"passthrough db.example.com:5432":                  {Action: "passthrough", Hosts: []string{"db.example.com"}, Ports: []uint32{5432}},
		"deny api.example.com /admin /v1/x,y":              {Action: "deny", Hosts: []string{"api.example.com"}, Paths: []string{"/admin", "/v1/x,y"}},
		"deny * TRACE /":                                   {Action: "deny", Methods: []string{"TRACE"}, Paths: []string{"/"}},
		"deny *:8080,*:8081":                               {Action: "deny", Ports: []uint32{8080, 8081}},
		"deny a:1,a:2,b:2,b:1":                             {Action: "deny", Hosts: []string{"a", "b"}, Ports: []uint32{1, 2}},
		"deny 10.0.0.0/8:5432":                             {Action: "deny", Hosts: []string{"10.0.0.0/8"}, Ports: []uint32{5432}},
		"deny 2001:db8::1,2001:db8::/32,[2001:db8::2]":     {Action: "deny", Hosts: []string{"2001:db8::1", "2001:db8::/32", "2001:db8::2"}},
		"deny [2001:db8::1]:443,[2001:db8::/32]:443":       {Action: "deny", Hosts: []string{"2001:db8::1", "2001:db8::/32"}, Ports: []uint32{443}},
		"  deny\ta   GET  ":                                {Action: "deny", Hosts: []string{"a"}, Methods: []string{"GET"}},
	} {
		got, err := policy.ParseRule(text)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("ParseRule(%q) = %+v, %v; want %+v", text, got, err, want)
		}
	}
	for text, says := range map[string]string{
		"":                        "want ACTION HOST",
		"deny":                    "want ACTION HOST",
		"allow a":                 "begins with inspect, passthrough or deny",
		"a deny":                  "begins with inspect, passthrough or deny",
		"deny a:0":                "a port from 1 to 65535",
		"deny a:https":            "a port from 1 to 65535",
		"deny https://a":          "a port from 1 to 65535",
		"deny a:70000":            "a port from 1 to 65535",
		"deny a:443,b":            "one rule for a and one for b",
		"deny a:1,b:2":            "one rule for a and one for b",
		"deny *,a":                "no others beside it",
		"deny a,*":                "no others beside it",
		"deny a, b":               "one comma and no space",
		"deny a GET HEAD":         "one comma and no space",
		"deny a /x GET":           "one comma and no space",
		"passthrough a GET, /x x": "one comma and no space",
	} {
		rule, err := policy.ParseRule(text)
		if err == nil { // what Check is for
			_, err = policy.Check(control.Policy{Rules: []control.PolicyRule{rule}})
		}
		if control.CodeOf(err) != control.CodeInvalid || !strings.Contains(err.Error(), says) {
			t.Errorf("ParseRule(%q): %v, want … %s", text, err, says)
		}
	}
}

// What is printed can be typed.
func TestFormatIsRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, err := policy.Check(drawPolicy.Draw(t, "policy"))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range p.Rules {
			again, err := policy.ParseRule(policy.FormatRule(r))
			if err != nil || !reflect.DeepEqual(again, r) {
				t.Fatalf("ParseRule(%q) = %+v, %v; want %+v", policy.FormatRule(r), again, err, r)
			}
		}
	})
}
