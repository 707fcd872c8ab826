package bind

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sallyport/control/api"
)

const (
	inspect = api.Action_ACTION_INSPECT
	through = api.Action_ACTION_PASSTHROUGH
	deny    = api.Action_ACTION_DENY
)

func policyTable(t testing.TB, otherwise api.Action, bindings []*api.Binding, rules ...*api.PolicyRule) *Table {
	t.Helper()
	tab, err := New(bindings, nil, &api.Policy{Default: otherwise, Rules: rules})
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

func hosts(a api.Action, hosts ...string) *api.PolicyRule {
	return &api.PolicyRule{Action: a, Hosts: hosts}
}

func TestRouteOfNamedConnections(t *testing.T) {
	tab := policyTable(t, inspect, []*api.Binding{binding("bound", false, "bound.test", "odd.test:8443", "*.wild.test")},
		hosts(deny, "evil.test", "**.evil.test"),
		&api.PolicyRule{Action: deny, Hosts: []string{"api.test"}, Paths: []string{"/admin"}},
		hosts(through, "pinned.test", "*.pinned.test", "api.test", "bound.test", "x.wild.test"),
		&api.PolicyRule{Action: through, Hosts: []string{"db.test"}, Ports: []uint32{5432}},
		hosts(through, "198.51.100.0/24", "192.0.2.7"),
		hosts(deny, "bound.test"),
	)
	for _, tt := range []struct {
		host string
		port uint16
		want api.Action
		to   string
	}{
		{"other.test", 443, inspect, ""},
		{"evil.test", 443, deny, ""}, {"a.b.evil.test", 443, deny, ""}, {"notevil.test", 443, inspect, ""},
		{"pinned.test", 443, through, "pinned.test"}, {"a.pinned.test", 443, through, "a.pinned.test"}, {"a.b.pinned.test", 443, inspect, ""},
		{"pinned.test", 8443, deny, ""},  // the rule is about 443 and 80
		{"api.test", 443, inspect, ""},   // requests have to be seen, whatever comes later
		{"bound.test", 443, inspect, ""}, // the binding wins over passthrough, and what comes later is not reached
		{"x.wild.test", 443, inspect, ""},
		{"odd.test", 8443, inspect, ""}, {"other.test", 8443, deny, ""},
		{"db.test", 5432, through, "db.test"}, {"db.test", 443, inspect, ""}, {"other.test", 5432, deny, ""},
	} {
		// Where a client with a name connects to decides nothing.
		for _, address := range []string{"", "198.51.100.1"} {
			d := Destination{Host: tt.host, Port: tt.port, Leads: func(string) bool { return true }}
			if address == "" {
				d.Leads = nil
			}
			got := tab.Route(d)
			if got.Action != tt.want || got.Action == through && got.Host != tt.to {
				t.Errorf("%s:%d: %+v, want %v to %q", tt.host, tt.port, got, tt.want, tt.to)
			}
		}
	}
	if r := policyTable(t, through, []*api.Binding{binding("bound", false, "bound.test")}).Route(Destination{Host: "bound.test", Port: 443}); r.Action != inspect {
		t.Errorf("a bound host, by default: %v", r)
	}
	if r := policyTable(t, deny, []*api.Binding{binding("bound", false, "bound.test")}).Route(Destination{Host: "bound.test", Port: 443}); r.Action != inspect {
		t.Errorf("a bound host where the default denies: %v", r)
	}
	if r := policyTable(t, through, nil).Route(Destination{Host: "any.test", Port: 22}); r.Action != deny {
		t.Errorf("the default passes what no rule names the port of: %v", r)
	}
	rules := hosts(deny)
	if r := policyTable(t, inspect, []*api.Binding{binding("bound", false, "bound.test")}, rules).Route(Destination{Host: "bound.test", Port: 443}); r.Action != deny {
		t.Errorf("a rule that denies does not hold for a bound host: %v", r)
	}
}

func TestRouteOfNamelessConnections(t *testing.T) {
	leads := map[string]string{"git.test": "203.0.113.1", "evil.test": "203.0.113.2", "bound.test": "203.0.113.3", "shared.test": "203.0.113.1"}
	tab := policyTable(t, through, []*api.Binding{binding("bound", true, "bound.test:22")},
		&api.PolicyRule{Action: deny, Hosts: []string{"evil.test"}, Ports: []uint32{22}},
		&api.PolicyRule{Action: through, Hosts: []string{"**.test"}, Ports: []uint32{22}},
		&api.PolicyRule{Action: through, Ports: []uint32{22}},
		&api.PolicyRule{Action: through, Hosts: []string{"git.test", "shared.test", "evil.test"}, Ports: []uint32{22}},
		&api.PolicyRule{Action: through, Hosts: []string{"198.51.100.0/24", "2001:db8::/32"}, Ports: []uint32{22, 443}},
	)
	for _, tt := range []struct {
		address string
		port    uint16
		want    Route
	}{
		{"203.0.113.1", 22, Route{through, 4, "git.test"}},
		{"203.0.113.2", 22, Route{deny, 1, "evil.test"}},
		{"203.0.113.3", 22, Route{deny, 0, ""}},
		{"203.0.113.9", 22, Route{deny, 0, ""}}, // rules for any host or for names below one name none
		{"203.0.113.1", 443, Route{deny, 0, ""}},
		{"198.51.100.9", 22, Route{through, 5, ""}}, {"198.51.100.9", 443, Route{through, 5, ""}},
		{"2001:db8::1", 22, Route{through, 5, ""}}, {"198.51.100.9", 80, Route{deny, 0, ""}},
	} {
		d := Destination{Address: netip.MustParseAddr(tt.address), Port: tt.port, Leads: func(name string) bool { return leads[name] == tt.address }}
		if got := tab.Route(d); got != tt.want {
			t.Errorf("%s port %d: %+v, want %+v", tt.address, tt.port, got, tt.want)
		}
	}
}

// A bound host is not passed through either to a client that names none and is
// led to it, or that has named it by CONNECT and speaks no TLS.
func TestRouteOfBoundHostsByAnotherDoor(t *testing.T) {
	tab := policyTable(t, through, []*api.Binding{binding("bound", false, "bound.test", "bound.test:22")},
		&api.PolicyRule{Action: through, Hosts: []string{"bound.test"}, Ports: []uint32{443, 22}})
	for _, port := range []uint16{443, 22} {
		nameless := Destination{Address: netip.MustParseAddr("203.0.113.3"), Port: port, Leads: func(name string) bool { return name == "bound.test" }}
		if r := tab.Route(nameless); r.Action == through {
			t.Errorf("port %d, without a name: %+v", port, r)
		}
		if r := tab.Route(Destination{Host: "bound.test", Port: port}); r.Action == through {
			t.Errorf("port %d: %+v", port, r)
		}
	}
}

// paths that some server reads as /admin or below it.
var crooked = []string{
	"/a/../admin", "/../admin", "/./admin", "/admin/.", "/%2e%2e/admin", "/a/%2E%2e/admin", "/.%2e/admin", "/a/..;/admin", "/..;x=1/admin",
	"//admin", "/a//../admin", "/%2fadmin", "/%2Fadmin", "/x%2f..%2fadmin", "/admin;x=1", "/;x/admin", "/admin%3bx", "/admin%3Bx=1/",
	`/\admin`, "/%5cadmin", `/a\..\admin`, "/%5Cadmin", "/%61dmin%2f", "/%2561dmin", "/%25%36%31dmin", "/a%25%32%66..%25%32%66admin",
	"/%u0061dmin", "/%25u0061dmin", "/%c0%ae%c0%ae/admin", "/%c0%afadmin", "/admin%00", "/admin%00.png", "/admin%20", "/admin.", "/admin%2e", "/admin%09",
	"/admin%3f", "/admin%23", "/%ef%bd%81dmin", "/%EF%BC%8Fadmin", "/a%0d%0a/admin", "/%zz/admin", "/%", "*", "", "admin", "http://x/admin", "/admin//",
}

// TestCrookedPathsAreRefused where a rule goes by paths, whether it denies or
// allows, and nowhere else.
func TestCrookedPathsAreRefused(t *testing.T) {
	denying := policyTable(t, inspect, nil, &api.PolicyRule{Action: deny, Hosts: []string{"api.test"}, Paths: []string{"/admin"}})
	allowing := policyTable(t, deny, nil, &api.PolicyRule{Action: inspect, Hosts: []string{"api.test"}, Paths: []string{"/public"}})
	for _, path := range crooked {
		for name, tab := range map[string]*Table{"denying": denying, "allowing": allowing} {
			if err := tab.decide(Request{"api.test", 443, true, "GET", path}); err == nil {
				t.Errorf("%s: %q gets through", name, path)
			}
		}
		if err := denying.decide(Request{"other.test", 443, true, "GET", path}); err != nil {
			t.Errorf("%q to another host: %v", path, err)
		}
	}
	// These are read one way by all, and so are decided.
	for path, denied := range map[string]bool{
		"/admin": true, "/admin/": true, "/admin/x": true, "/%61dmin": true, "/%61%64%6d%69%6e/x": true, "/ADMIN": true, "/Admin/x": true, "/adm%C4%B1n": false,
		"/": false, "/administrator": false, "/admi": false, "/x/admin": false, "/a/b.c/d": false, "/docs/%C3%A9": false, "/100%25": false, "/a%20b": false, "/...x": false,
		"/admin-": false, "/.well-known/x": false,
	} {
		err := denying.decide(Request{"api.test", 443, true, "GET", path})
		var refused *DeniedError
		if errors.As(err, &refused) != denied || err != nil && !denied {
			t.Errorf("%q: %v, want denied: %v", path, err, denied)
		}
	}
}

func TestPermit(t *testing.T) {
	tab := policyTable(t, deny, []*api.Binding{binding("bound", false, "bound.test")},
		&api.PolicyRule{Action: deny, Methods: []string{"DELETE"}},
		&api.PolicyRule{Action: inspect, Hosts: []string{"read.test"}, Methods: []string{"GET", "HEAD"}, Paths: []string{"/v1/", "/v2"}},
		&api.PolicyRule{Action: deny, Hosts: []string{"bound.test"}, Paths: []string{"/v1/payouts"}},
		&api.PolicyRule{Action: through, Hosts: []string{"pinned.test"}},
		&api.PolicyRule{Action: inspect, Hosts: []string{"odd.test"}, Ports: []uint32{8080}},
	)
	for _, tt := range []struct {
		host   string
		port   uint16
		method string
		path   string
		rule   int // that denies; -1: it is permitted
	}{
		{"read.test", 443, "GET", "/v1/x", -1}, {"read.test", 443, "GET", "/v1", -1}, {"read.test", 443, "HEAD", "/v2", -1},
		{"read.test", 443, "POST", "/v1/x", 0}, {"read.test", 443, "get", "/v1/x", 0}, {"read.test", 443, "GET", "/v10", 0}, {"read.test", 443, "GET", "/V1/x", 0},
		{"read.test", 443, "DELETE", "/v1/x", 1}, {"read.test", 443, "delete", "/v1/x", 1},
		{"bound.test", 443, "GET", "/v1/charges", -1}, {"bound.test", 443, "GET", "/v1/payouts/1", 3}, {"bound.test", 443, "DELETE", "/", 1},
		{"pinned.test", 443, "GET", "/", -1}, // what reads passthrough is inspected here
		{"pinned.test", 80, "GET", "/", -1}, {"pinned.test", 443, "DELETE", "/", 1},
		{"odd.test", 8080, "GET", "/", -1}, {"odd.test", 443, "GET", "/", 0}, {"other.test", 443, "GET", "/", 0}, {"bound.test", 8443, "GET", "/", 0},
	} {
		err := tab.decide(Request{tt.host, tt.port, true, tt.method, tt.path})
		var denied *DeniedError
		switch {
		case tt.rule < 0 && err != nil, tt.rule >= 0 && (!errors.As(err, &denied) || denied.Rule != tt.rule):
			t.Errorf("%s %s:%d%s: %v, want rule %d", tt.method, tt.host, tt.port, tt.path, err, tt.rule)
		}
	}
	for host, want := range map[string]bool{"read.test": true, "bound.test": true, "other.test": true} {
		if tab.Refined(host, 443) != want {
			t.Errorf("%s is refined: %v", host, !want)
		}
	}
	if tab.Refined("odd.test", 8080) {
		t.Error("a rule for 443 and 80 is about 8080")
	}
}

func TestPortsOfRules(t *testing.T) {
	tab := policyTable(t, inspect, nil,
		&api.PolicyRule{Action: through, Hosts: []string{"git.test"}, Ports: []uint32{22}},
		&api.PolicyRule{Action: inspect, Hosts: []string{"odd.test"}, Ports: []uint32{8080}},
		&api.PolicyRule{Action: deny, Ports: []uint32{25}},
		hosts(through, "pinned.test"))
	for port, want := range map[uint16][2]bool{443: {true, false}, 80: {true, false}, 22: {false, true}, 8080: {true, false}, 25: {false, false}, 5432: {false, false}} {
		if got := [2]bool{tab.SpeaksHTTP(port), tab.PassesPort(port)}; got != want {
			t.Errorf("port %d: %v, want %v", port, got, want)
		}
	}
}

// What nothing may be sent to is not asked for by name: the question itself would
// be a message.
func TestReachable(t *testing.T) {
	tab := policyTable(t, deny, []*api.Binding{binding("bound", false, "bound.test", "odd.test:8443", "*.wild.test")},
		hosts(deny, "gone.test"),
		&api.PolicyRule{Action: deny, Methods: []string{"DELETE"}}, // says nothing of what else may be
		&api.PolicyRule{Action: inspect, Hosts: []string{"read.test", "gone.test"}, Methods: []string{"GET"}},
		&api.PolicyRule{Action: through, Hosts: []string{"git.test"}, Ports: []uint32{22}},
		&api.PolicyRule{Action: deny, Hosts: []string{"some.test"}, Paths: []string{"/x"}},
		hosts(inspect, "198.51.100.0/24", "some.test"))
	for host, want := range map[string]bool{
		"bound.test": true, "odd.test": true, "x.wild.test": true, "read.test": true, "git.test": true, "some.test": true,
		"gone.test": false, "other.test": false, "x.bound.test": false, "c2vjcmv0.evil.test": false,
	} {
		if tab.Reachable(host) != want {
			t.Errorf("%s: %v", host, !want)
		}
	}
	if tab := policyTable(t, inspect, nil, hosts(deny, "evil.test")); tab.Reachable("evil.test") || !tab.Reachable("other.test") {
		t.Error("a denied name is asked for, or another is not")
	}
	if new(Table).Reachable("any.test") {
		t.Error("before anything is known, names are asked for")
	}
}

func TestMalformedPolicyFailsAll(t *testing.T) {
	for name, p := range map[string]*api.Policy{
		"default":     {Default: 9},
		"action":      {Rules: []*api.PolicyRule{{Action: 9}}},
		"host":        {Rules: []*api.PolicyRule{hosts(deny, "a b")}},
		"empty host":  {Rules: []*api.PolicyRule{hosts(deny, "")}},
		"star":        {Rules: []*api.PolicyRule{hosts(deny, "*")}},
		"prefix":      {Rules: []*api.PolicyRule{hosts(deny, "10.0.0.0/33")}},
		"port 0":      {Rules: []*api.PolicyRule{{Action: deny, Ports: []uint32{0}}}},
		"port":        {Rules: []*api.PolicyRule{{Action: deny, Ports: []uint32{65536 + 443}}}},
		"path":        {Rules: []*api.PolicyRule{{Action: deny, Paths: []string{"/a/../b"}}}},
		"empty path":  {Rules: []*api.PolicyRule{{Action: deny, Paths: []string{""}}}},
		"passed path": {Rules: []*api.PolicyRule{{Action: through, Paths: []string{"/a"}}}},
		"passed GET":  {Rules: []*api.PolicyRule{{Action: through, Methods: []string{"GET"}}}},
	} {
		if tab, err := New(nil, nil, p); err == nil || tab != nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// What is decided about a connection holds for each request it could carry, and
// the table agrees with asking every rule in turn.
func TestRouteAgreesWithPermit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := []string{"a.test", "b.test", "x.a.test", "y.x.a.test"}
		rule := rapid.Custom(func(t *rapid.T) *api.PolicyRule {
			r := &api.PolicyRule{
				Action: rapid.SampledFrom([]api.Action{inspect, through, deny}).Draw(t, "action"),
				Hosts:  rapid.SliceOfN(rapid.SampledFrom([]string{"a.test", "b.test", "*.a.test", "**.test", "192.0.2.0/24"}), 0, 2).Draw(t, "hosts"),
				Ports:  rapid.SliceOfN(rapid.SampledFrom([]uint32{443, 80, 8443}), 0, 2).Draw(t, "ports"),
			}
			if r.Action != through {
				r.Methods = rapid.SliceOfN(rapid.SampledFrom([]string{"GET", "POST"}), 0, 2).Draw(t, "methods")
				r.Paths = rapid.SliceOfN(rapid.SampledFrom([]string{"/", "/x", "/x/y"}), 0, 2).Draw(t, "paths")
			}
			return r
		})
		p := &api.Policy{Default: rapid.SampledFrom([]api.Action{inspect, through, deny}).Draw(t, "default"), Rules: rapid.SliceOfN(rule, 0, 5).Draw(t, "rules")}
		tab, err := New([]*api.Binding{binding("b", false, "b.test", "b.test:8443")}, nil, p)
		if err != nil {
			t.Fatal(err)
		}
		host, port := rapid.SampledFrom(names).Draw(t, "host"), rapid.SampledFrom([]uint16{443, 80, 8443}).Draw(t, "port")
		bound := host == "b.test" && port != 80
		route := tab.Route(Destination{Host: host, Port: port})
		if route.Action == through && bound {
			t.Fatal("a bound host is passed through")
		}
		for _, method := range []string{"GET", "POST"} {
			for _, path := range []string{"/", "/x", "/x/y", "/xy"} {
				permitted := tab.decide(Request{host, port, true, method, path}) == nil
				if want := naive(p, bound, host, port, method, path); permitted != want {
					t.Fatalf("%s %s: permitted %v, want %v", method, path, permitted, want)
				}
				if route.Action == through && !permitted || route.Action == deny && permitted {
					t.Fatalf("the connection's verdict is %v, %s %s is permitted: %v", route.Action, method, path, permitted)
				}
				if permitted && !tab.Reachable(host) {
					t.Fatal("it is permitted and not reachable")
				}
			}
		}
	})
}

// naive reads a policy as its documentation says, word by word.
func naive(p *api.Policy, bound bool, host string, port uint16, method, path string) bool {
	for _, r := range p.Rules {
		hostFits := len(r.Hosts) == 0 || slices.ContainsFunc(r.Hosts, func(h string) bool {
			switch {
			case strings.HasPrefix(h, "**."):
				return strings.HasSuffix(host, h[2:])
			case strings.HasPrefix(h, "*."):
				return strings.HasSuffix(host, h[1:]) && strings.Count(host, ".") == strings.Count(h, ".")
			}
			return h == host
		})
		portFits := slices.Contains(r.Ports, uint32(port)) || len(r.Ports) == 0 && (port == 443 || port == 80)
		pathFits := len(r.Paths) == 0 || slices.ContainsFunc(r.Paths, func(p string) bool {
			return path == p || strings.HasPrefix(path+"/", strings.TrimSuffix(p, "/")+"/")
		})
		if hostFits && portFits && pathFits && (len(r.Methods) == 0 || slices.Contains(r.Methods, method)) {
			return r.Action != deny
		}
	}
	return bound || p.Default != deny && (port == 443 || port == 80)
}
