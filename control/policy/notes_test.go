package policy_test

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sallyport/control"
	"sallyport/control/api"
	"sallyport/control/policy"
	"sallyport/sidecar/bind"
)

var drawPolicy = rapid.Custom(func(t *rapid.T) control.Policy {
	some := func(what string, of ...string) []string {
		return rapid.SliceOfNDistinct(rapid.SampledFrom(of), 0, 2, rapid.ID[string]).Draw(t, what)
	}
	p := control.Policy{Default: rapid.SampledFrom([]control.Action{"inspect", "passthrough", "deny"}).Draw(t, "default")}
	for range rapid.IntRange(0, 3).Draw(t, "rules") {
		r := control.PolicyRule{
			Action: rapid.SampledFrom([]control.Action{"inspect", "passthrough", "deny"}).Draw(t, "action"),
			Hosts:  some("hosts", "a.test", "b.a.test", "*.test", "**.test", "*.a.test", "10.0.0.0/8", "10.1.2.3", "2001:db8::/32"),
			Ports:  rapid.SliceOfNDistinct(rapid.SampledFrom([]uint32{443, 80, 5432}), 0, 2, rapid.ID[uint32]).Draw(t, "ports"),
		}
		if r.Action != control.ActionPassthrough {
			r.Methods, r.Paths = some("methods", "GET", "DELETE"), some("paths", "/", "/v1", "/V1", "/v1/x")
		}
		for _, list := range []*[]string{&r.Hosts, &r.Methods, &r.Paths} {
			if len(*list) == 0 {
				*list = nil
			}
		}
		if len(r.Ports) == 0 {
			r.Ports = nil
		}
		p.Rules = append(p.Rules, r)
	}
	return p
})

var noted = regexp.MustCompile(`^rule (\d+) (never applies|passes nothing through|passes only connections through that name no host|applies only to connections that name no host)`)

// A rule of which a note says that it does nothing can be taken away, and every
// sidecar decides as before.
func TestNotesAreTrue(t *testing.T) {
	seen := make(map[string]int)
	check := func(t *rapid.T) {
		p, err := policy.Check(drawPolicy.Draw(t, "policy"))
		if err != nil {
			t.Fatal(err)
		}
		for _, note := range policy.Notes(p, nil) {
			found := noted.FindStringSubmatch(note)
			if found == nil {
				t.Fatalf("the note %q", note)
			}
			seen[found[2]]++
			n, _ := strconv.Atoi(found[1])
			without := p
			without.Rules = slices.Clone(p.Rules)
			if strings.HasPrefix(found[2], "passes") {
				without.Rules[n-1].Action = control.ActionInspect
			} else {
				without.Rules = slices.Delete(without.Rules, n-1, n)
			}
			before, after := decisions(t, p), decisions(t, without)
			for what, decided := range before {
				excepted := strings.HasPrefix(what, "unnamed") && strings.HasSuffix(found[2], "name no host")
				if after[what] != decided && !excepted {
					t.Fatalf("%s\n%s\nbut %s: %s with it, %s without", policy.Format(p), note, what, decided, after[what])
				}
			}
		}
	}
	for range 30 { // times 100 policies, to see the rarest note too
		rapid.Check(t, check)
	}
	if len(seen) != 4 {
		t.Errorf("only these notes were seen: %v", seen)
	}
}

// decisions is what a sidecar with the policy decides about connections and requests.
func decisions(t *rapid.T, p control.Policy) map[string]string {
	table, err := bind.New(nil, nil, policy.Wire(p))
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for _, port := range []uint16{443, 80, 5432} {
		for _, name := range []string{"a.test", "b.a.test", "c.test", "x.c.test", "elsewhere.example"} {
			d := bind.Destination{Host: name, Port: port}
			all[fmt.Sprint("connection ", name, port)] = table.Route(d).Action.String()
			d.Address = netip.MustParseAddr("10.1.2.3")
			all[fmt.Sprint("dialled ", name, port)] = table.Route(d).Action.String()
			for _, method := range []string{"GET", "delete", "DELETE", "POST"} {
				for _, path := range []string{"/", "/v1", "/V1", "/v1/x/y", "/v2"} {
					all[fmt.Sprint("request ", name, port, method, path)] = strconv.FormatBool(permitted(table, bind.Request{Host: name, Port: port, TLS: true, Method: method, Path: path}) == nil)
				}
			}
		}
		for _, address := range []string{"10.1.2.3", "10.2.3.4", "2001:db8::1", "192.0.2.1"} {
			for _, leads := range []string{"a.test", "b.a.test", ""} {
				route := table.Route(bind.Destination{
					Address: netip.MustParseAddr(address), Port: port, Leads: func(name string) bool { return name == leads },
				})
				all[fmt.Sprint("unnamed ", address, leads, port)] = route.Action.String() + " " + route.Host
			}
		}
	}
	return all
}

func TestNotes(t *testing.T) {
	stripe := control.Credential{Vault: "v", Name: "stripe", Hosts: []string{"api.stripe.com"}}
	plain := control.Credential{Vault: "v", Name: "plain", Hosts: []string{"plain.example.com"}, AllowHTTP: true}
	wild := control.Credential{Vault: "v", Name: "wild", Hosts: []string{"*.example.com", "db.example.com:8443"}}
	credentials := []control.Credential{stripe, plain, wild}
	for _, tc := range []struct {
		rules string
		notes []string
	}{
		{"inspect pypi.org GET,HEAD; deny api.stripe.com DELETE; passthrough db.example.com:5432; passthrough pinned.example", nil},
		{"inspect *; passthrough **.pinned.example", []string{"rule 2 never applies: rule 1"}},
		{"inspect *; passthrough pinned.example", []string{"rule 2 applies only to connections that name no host: rule 1"}},
		{"inspect *; deny 10.0.0.0/8", []string{"rule 2 applies only to connections that name no host: rule 1"}},
		{"inspect a.example; deny a.example", []string{"rule 2 never applies: rule 1"}},
		{"inspect a.example GET; deny a.example", nil},
		{"inspect a.example GET; passthrough a.example", []string{"rule 2 passes nothing through: rule 1"}},
		{"inspect a.example GET,HEAD /v1; deny a.example GET /v1/x", nil}, // which denies /V1/X too
		{"deny a.example GET /v1; inspect a.example GET /V1/x", []string{"rule 2 never applies: rule 1"}},
		{"inspect a.example /v1; inspect a.example /v10", nil},
		{"inspect a.example; deny a.example:8080", nil},
		{"inspect a.example:443; deny a.example", nil},
		{"passthrough api.stripe.com", []string{"rule 1 passes no connection to api.stripe.com (credential v/stripe) through"}},
		{"passthrough **.com", []string{"rule 1 passes no connection to api.stripe.com (credential v/stripe), plain.example.com (credential v/plain), *.example.com (credential v/wild) through"}},
		{"passthrough api.stripe.com:5432", nil},
		{"passthrough plain.example.com:80", []string{"rule 1 passes no connection to plain.example.com (credential v/plain) through"}},
		{"passthrough a.example.com", []string{"rule 1 passes no connection to *.example.com (credential v/wild) through"}},
		{"passthrough *", nil},
		{"deny api.stripe.com", []string{"rule 1 denies api.stripe.com (credential v/stripe)"}},
		{"inspect api.stripe.com; deny **.stripe.com", nil},
		{"deny *", []string{"rule 1 denies api.stripe.com (credential v/stripe), plain.example.com (credential v/plain), *.example.com (credential v/wild): a rule"}},
	} {
		p := control.Policy{Default: control.ActionInspect}
		for text := range strings.SplitSeq(tc.rules, "; ") {
			r, err := policy.ParseRule(text)
			if err != nil {
				t.Fatal(err)
			}
			p.Rules = append(p.Rules, r)
		}
		p, err := policy.Check(p)
		if err != nil {
			t.Fatal(err)
		}
		notes := policy.Notes(p, credentials)
		if len(notes) != len(tc.notes) {
			t.Errorf("%s: %q, want %q", tc.rules, notes, tc.notes)
			continue
		}
		for i, want := range tc.notes {
			if !strings.HasPrefix(notes[i], want) {
				t.Errorf("%s: %q, want %q", tc.rules, notes, tc.notes)
			}
		}
	}
}

// What a note says of bound hosts is so.
func TestNotesOnBoundHostsAreTrue(t *testing.T) {
	bound := []*api.Binding{{CredentialId: "1", Vault: "v", Name: "stripe", Hosts: []string{"api.stripe.com"}, Inject: []*api.Rule{{Place: &api.Rule_Basic_{Basic: &api.Rule_Basic{}}}}}}
	for text, want := range map[string]api.Action{
		"passthrough api.stripe.com": api.Action_ACTION_INSPECT,
		"deny api.stripe.com":        api.Action_ACTION_DENY,
		"deny *":                     api.Action_ACTION_DENY,
	} {
		r, err := policy.ParseRule(text)
		if err != nil {
			t.Fatal(err)
		}
		table, err := bind.New(bound, nil, policy.Wire(control.Policy{Default: "inspect", Rules: []control.PolicyRule{r}}))
		if err != nil {
			t.Fatal(err)
		}
		if got := table.Route(bind.Destination{Host: "api.stripe.com", Port: 443}); got.Action != want {
			t.Errorf("%s: %v, want %v", text, got.Action, want)
		}
	}
}

func permitted(table *bind.Table, r bind.Request) error {
	_, err := table.Permit(r)
	return err
}
