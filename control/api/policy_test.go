package api_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sallyport/control/api"
	"sallyport/sidecar/bind"
)

func TestPolicyHostMatch(t *testing.T) {
	for _, tc := range []struct {
		pattern, normal string
		names, others   string
		addrs, not      string
	}{
		{"API.Example.com.", "api.example.com", "api.example.com", "example.com a.api.example.com api.example.com.evil.test xapi.example.com", "", "192.0.2.1"},
		{"*.Example.com", "*.example.com", "a.example.com", "example.com .example.com a.b.example.com aexample.com", "", "192.0.2.1"},
		{"**.example.com", "**.example.com", "a.example.com a.b.example.com", "example.com .example.com aexample.com", "", ""},
		{"**.com", "**.com", "a.com a.b.com", "com acom", "", ""},
		{"localhost", "localhost", "localhost", "a.localhost", "", "127.0.0.1"},
		{"192.0.2.1", "192.0.2.1", "", "192.0.2.1 a", "192.0.2.1 ::ffff:192.0.2.1", "192.0.2.2 2001:db8::1"},
		{"::ffff:192.0.2.1", "192.0.2.1", "", "", "192.0.2.1", "::1"},
		{"::ffff:192.0.2.0/120", "192.0.2.0/24", "", "", "192.0.2.7 ::ffff:192.0.2.7", "192.0.3.1"},
		{"10.0.0.0/8", "10.0.0.0/8", "", "10.0.0.1", "10.255.0.1", "11.0.0.1 a00::1"},
		{"2001:DB8::/32", "2001:db8::/32", "", "", "2001:db8::1", "2001:db9::1 32.1.13.184"},
		{"0.0.0.0/0", "0.0.0.0/0", "", "", "1.2.3.4", "::1"},
		{"192.0.2.1/32", "192.0.2.1", "", "", "192.0.2.1", "192.0.2.0"},
	} {
		h, err := api.ParsePolicyHost(tc.pattern)
		if err != nil || h.String() != tc.normal {
			t.Errorf("ParsePolicyHost(%q) = %v, %v; want %s", tc.pattern, h, err, tc.normal)
			continue
		}
		if again, err := api.ParsePolicyHost(h.String()); err != nil || again != h {
			t.Errorf("ParsePolicyHost(%q) = %v, %v", h, again, err)
		}
		for want, names := range map[bool]string{true: tc.names, false: tc.others} {
			for _, name := range strings.Fields(names) {
				if h.MatchName(name) != want {
					t.Errorf("%q.MatchName(%q) = %v", tc.pattern, name, !want)
				}
			}
		}
		for want, addrs := range map[bool]string{true: tc.addrs, false: tc.not} {
			for _, addr := range strings.Fields(addrs) {
				if h.MatchAddr(netip.MustParseAddr(addr)) != want {
					t.Errorf("%q.MatchAddr(%s) = %v", tc.pattern, addr, !want)
				}
			}
		}
	}
	var zero api.PolicyHost
	if zero.MatchName("") || zero.MatchName("a.") || zero.MatchAddr(netip.Addr{}) {
		t.Error("the zero host matches")
	}
}

func TestPolicyHostRefused(t *testing.T) {
	for _, s := range []string{
		"", "*", "**", "*.", "**.", "***.a.example", "*.*.example", "a.*.example", "*a.example", "a..b", "a_b.example", "bücher.example",
		"a.example:443", "[::1]", "[::1]:443", "::1%eth0", "1.2.3", "host.123", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/", "a.example/8", "fe80::1%eth0/64",
		"::ffff:0.0.0.0/90", "https://a.example", "a b", " a.example", "*.10.0.0.1", "a\x00.example",
	} {
		if h, err := api.ParsePolicyHost(s); err == nil {
			t.Errorf("ParsePolicyHost(%q) = %v, want an error", s, h)
		}
	}
}

var (
	drawName = rapid.StringMatching(`[ab](\.[ab]){0,3}`)
	drawAddr = rapid.Custom(func(t *rapid.T) netip.Addr {
		if rapid.Bool().Draw(t, "v6") {
			return netip.AddrFrom16([16]byte{0x20, 1, rapid.Byte().Draw(t, "byte")})
		}
		return netip.AddrFrom4([4]byte{10, rapid.Byte().Draw(t, "byte")})
	})
	drawHost = rapid.Custom(func(t *rapid.T) string {
		if rapid.Bool().Draw(t, "address") {
			addr := drawAddr.Draw(t, "address")
			return netip.PrefixFrom(addr, rapid.IntRange(0, addr.BitLen()).Draw(t, "bits")).Masked().String()
		}
		return rapid.SampledFrom([]string{"", "*.", "**."}).Draw(t, "below") + drawName.Draw(t, "name")
	})
)

// A host that covers another fits whatever that one fits.
func TestPolicyHostCovers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := parseHost(t, drawHost.Draw(t, "a")), parseHost(t, drawHost.Draw(t, "b"))
		name, addr := drawName.Draw(t, "name"), drawAddr.Draw(t, "addr")
		if !a.Covers(a) {
			t.Fatalf("%s does not cover itself", a)
		}
		if a.Covers(b) && (b.MatchName(name) && !a.MatchName(name) || b.MatchAddr(addr) && !a.MatchAddr(addr)) {
			t.Fatalf("%s covers %s but not %s, %s", a, b, name, addr)
		}
	})
	for _, tc := range []struct {
		a, b string
		want bool
	}{
		{"**.example.com", "*.example.com", true},
		{"*.example.com", "**.example.com", false},
		{"**.com", "**.example.com", true},
		{"**.example.com", "example.com", false},
		{"**.example.com", "*.a.example.com", true},
		{"*.example.com", "*.a.example.com", false},
		{"10.0.0.0/8", "10.1.0.0/16", true},
		{"10.1.0.0/16", "10.0.0.0/8", false},
		{"10.0.0.0/8", "a.example", false},
		{"**.example", "10.0.0.1", false},
	} {
		if got := parseHost(t, tc.a).Covers(parseHost(t, tc.b)); got != tc.want {
			t.Errorf("%s.Covers(%s) = %v", tc.a, tc.b, got)
		}
	}
}

func parseHost(t interface{ Fatal(...any) }, s string) api.PolicyHost {
	h, err := api.ParsePolicyHost(s)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestCheckPolicyRefuses(t *testing.T) {
	const deny, pass = api.Action_ACTION_DENY, api.Action_ACTION_PASSTHROUGH
	good := &api.PolicyRule{Action: deny, Hosts: []string{"a.example"}, Ports: []uint32{1, 65535}, Methods: []string{"GET", "M-SEARCH"}, Paths: []string{"/", "/v1/", "/a%20b/%C3%BC/x~,'@"}}
	if err := api.CheckPolicy(nil); err != nil {
		t.Error(err)
	}
	if err := api.CheckPolicy(&api.Policy{Default: pass, Rules: slices.Repeat([]*api.PolicyRule{good}, api.MaxPolicyRules)}); err != nil {
		t.Error(err)
	}
	for _, tc := range []struct {
		rule  *api.PolicyRule
		field string
		says  string
	}{
		{&api.PolicyRule{Action: 9}, "action", "inspect, passthrough or deny"},
		{&api.PolicyRule{Hosts: []string{"a.example", "*"}}, "hosts", `"*": a rule without hosts`},
		{&api.PolicyRule{Methods: []string{"*"}}, "methods", "a rule without methods"},
		{&api.PolicyRule{Hosts: []string{"a.example:443"}}, "hosts", "ports beside"},
		{&api.PolicyRule{Hosts: []string{"10.0.0.1/8"}}, "hosts", "10.0.0.0/8"},
		{&api.PolicyRule{Ports: []uint32{443, 0}}, "ports", "0 is no port"},
		{&api.PolicyRule{Ports: []uint32{65536}}, "ports", "65536 is no port"},
		{&api.PolicyRule{Action: pass, Methods: []string{"GET"}}, "methods", "not read"},
		{&api.PolicyRule{Action: pass, Paths: []string{"/"}}, "paths", "not read"},
		{&api.PolicyRule{Methods: []string{""}}, "methods", "empty"},
		{&api.PolicyRule{Methods: []string{"get"}}, "methods", "write it as GET"},
		{&api.PolicyRule{Methods: []string{"GE T"}}, "methods", "character"},
		{&api.PolicyRule{Methods: []string{"GET,HEAD"}}, "methods", "character"},
		{&api.PolicyRule{Methods: []string{"GÉT"}}, "methods", "character"},
		{&api.PolicyRule{Paths: []string{""}}, "paths", "begins with /"},
		{&api.PolicyRule{Paths: []string{"v1"}}, "paths", "begins with /"},
		{&api.PolicyRule{Paths: []string{"/a?b"}}, "paths", "query"},
		{&api.PolicyRule{Paths: []string{"/a#b"}}, "paths", "fragment"},
		{&api.PolicyRule{Paths: []string{"/a/../b"}}, "paths", `dot segment ".."`},
		{&api.PolicyRule{Paths: []string{"/a/%2e%2E/b"}}, "paths", `dot segment ".."`},
		{&api.PolicyRule{Paths: []string{"/./b"}}, "paths", `dot segment "."`},
		{&api.PolicyRule{Paths: []string{"/a//b"}}, "paths", "empty segment"},
		{&api.PolicyRule{Paths: []string{"//"}}, "paths", "empty segment"},
		{&api.PolicyRule{Paths: []string{"/a%2Fb"}}, "paths", "encoded slash"},
		{&api.PolicyRule{Paths: []string{"/a;b"}}, "paths", "differently"},
		{&api.PolicyRule{Paths: []string{"/a%5Cb"}}, "paths", "differently"},
		{&api.PolicyRule{Paths: []string{"/a%252e"}}, "paths", "twice"},
		{&api.PolicyRule{Paths: []string{"/a%zz"}}, "paths", "begins no escape"},
		{&api.PolicyRule{Paths: []string{"/a."}}, "paths", "dot or a space"},
		{&api.PolicyRule{Paths: []string{"/%FF"}}, "paths", "UTF-8"},
		{&api.PolicyRule{Paths: []string{"/a%00"}}, "paths", "control"},
		{&api.PolicyRule{Paths: []string{"/%EF%BC%8E"}}, "paths", "spellings"},
		{&api.PolicyRule{Paths: []string{"/a b"}}, "paths", "percent-encode"},
		{&api.PolicyRule{Paths: []string{"/ü"}}, "paths", "percent-encode"},
	} {
		err := api.CheckPolicy(&api.Policy{Rules: []*api.PolicyRule{good, tc.rule}})
		var wrong *api.PolicyError
		if !errors.As(err, &wrong) || wrong.Rule != 2 || wrong.Field != tc.field || !strings.Contains(err.Error(), tc.says) || !strings.HasPrefix(err.Error(), "rule 2, "+tc.field+": ") {
			t.Errorf("%v: %v, want rule 2, %s: … %s", tc.rule, err, tc.field, tc.says)
		}
	}
	for says, p := range map[string]*api.Policy{
		"default: the action must be":     {Default: 4},
		"rules: 257 rules, at most 256":   {Rules: slices.Repeat([]*api.PolicyRule{good}, 257)},
		"rules: 4097 hosts, ports, metho": {Rules: []*api.PolicyRule{{Hosts: slices.Repeat([]string{"a"}, 4097)}}},
	} {
		if err := api.CheckPolicy(p); err == nil || !strings.HasPrefix(err.Error(), says) {
			t.Errorf("%v, want %s", err, says)
		}
	}
}

// What the control plane lets in every sidecar can go by, and it fits the same
// hosts there.
func TestSidecarTakesWhatIsChecked(t *testing.T) {
	drawPath := rapid.StringMatching(`/?([a%2.;:,=+@~ü5CEf/-]|%2e|%20|%C3%BC|%u00){0,6}`)
	accepted := 0
	rapid.Check(t, func(t *rapid.T) {
		host := drawHost.Draw(t, "host")
		p := &api.Policy{
			Default: api.Action_ACTION_DENY,
			Rules: []*api.PolicyRule{{
				Action: api.Action_ACTION_INSPECT, Hosts: []string{host},
				Paths: rapid.SliceOfN(drawPath, 0, 2).Draw(t, "paths"),
			}},
		}
		table, err := bind.New(nil, nil, p)
		if api.CheckPolicy(p) != nil {
			return
		}
		accepted++
		if err != nil {
			t.Fatalf("a sidecar refuses %v: %v", p, err)
		}
		d := bind.Destination{Port: api.DefaultPort}
		h := parseHost(t, host)
		want := false
		if rapid.Bool().Draw(t, "named") {
			d.Host = drawName.Draw(t, "name")
			want = h.MatchName(d.Host)
		} else {
			d.Address = drawAddr.Draw(t, "addr")
			want = h.MatchAddr(d.Address)
		}
		if got := table.Route(d).Action == api.Action_ACTION_INSPECT; got != want {
			t.Fatalf("%v: a sidecar says %v of %s, MatchName and MatchAddr %v", d, got, h, want)
		}
	})
	if accepted == 0 {
		t.Error("no policy was accepted: nothing was compared")
	}
}
