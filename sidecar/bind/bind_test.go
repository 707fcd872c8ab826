package bind

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sallyport/control/api"
)

func rule() []*api.Rule {
	return []*api.Rule{{Place: &api.Rule_Basic_{Basic: &api.Rule_Basic{}}}}
}

func binding(name string, allowHTTP bool, hosts ...string) *api.Binding {
	return &api.Binding{CredentialId: "id-" + name, Vault: "main", Name: name, Version: 1, Hosts: hosts, AllowHttp: allowHTTP, Inject: rule()}
}

func table(t testing.TB, bindings []*api.Binding, destinations ...*api.Destination) *Table {
	t.Helper()
	tab, err := New(bindings, destinations, nil)
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

func TestMatch(t *testing.T) {
	tab := table(t, []*api.Binding{
		binding("exact", false, "api.example.com"),
		binding("wild", true, "*.example.com", "*.example.com:8443"),
		binding("plain", true, "plain.example.org", "plain.example.org:8080"),
		binding("port", false, "port.example.org:8443"),
	})
	tests := []struct {
		host string
		port uint16
		tls  bool
		want string
	}{
		{"api.example.com", 443, true, "exact"},
		{"api.example.com", 80, false, "wild"}, // exact does not serve plain HTTP
		{"api.example.com", 8443, true, "wild"},
		{"www.example.com", 443, true, "wild"},
		{"www.example.com", 80, false, "wild"},
		{"www.example.com", 8443, false, "wild"},
		{"example.com", 443, true, ""},
		{"a.b.example.com", 443, true, ""},
		{"evilexample.com", 443, true, ""},
		{".example.com", 443, true, ""},
		{"api.example.com.evil.test", 443, true, ""},
		{"api.example.com", 8080, true, ""},
		{"plain.example.org", 443, true, "plain"},
		{"plain.example.org", 80, false, "plain"},
		{"plain.example.org", 8080, false, "plain"},
		{"plain.example.org", 8080, true, "plain"},
		{"plain.example.org", 443, false, ""},
		{"plain.example.org", 80, true, ""},
		{"port.example.org", 8443, true, "port"},
		{"port.example.org", 8443, false, ""},
		{"port.example.org", 443, true, ""},
		{"", 443, true, ""},
	}
	for _, tt := range tests {
		b, err := tab.match(tt.host, tt.port, tt.tls)
		if err != nil || b.GetName() != tt.want {
			t.Errorf("%s:%d tls=%v: %q, %v; want %q", tt.host, tt.port, tt.tls, b.GetName(), err, tt.want)
		}
	}
}

func TestTieIsRefusedByName(t *testing.T) {
	tab := table(t, []*api.Binding{
		binding("a", false, "api.example.com", "api.example.com"), // twice the same is no tie
		binding("b", true, "api.example.com", "*.example.com"),
		binding("c", true, "*.example.com:443"),
	})
	b, err := tab.match("api.example.com", 443, true)
	if b != nil || !errors.Is(err, ErrTie) {
		t.Fatalf("%v, %v", b, err)
	}
	for _, name := range []string{"main/a", "main/b", "api.example.com"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%q does not name %s", err, name)
		}
	}
	if _, err := tab.match("www.example.com", 443, true); !errors.Is(err, ErrTie) {
		t.Errorf("wildcards: %v", err)
	}
	if b, err := tab.match("api.example.com", 80, false); err != nil || b.GetName() != "b" {
		t.Errorf("plain: %v, %v", b, err)
	}
	only := table(t, []*api.Binding{binding("a", false, "api.example.com", "api.example.com")})
	if b, err := only.match("api.example.com", 443, true); err != nil || b == nil {
		t.Errorf("twice the same pattern: %v, %v", b, err)
	}
}

func TestMalformedBindingFailsAll(t *testing.T) {
	good := binding("good", false, "api.example.com")
	broken := map[string]func(*api.Binding){
		"id":          func(b *api.Binding) { b.CredentialId = "" },
		"vault":       func(b *api.Binding) { b.Vault = "" },
		"name":        func(b *api.Binding) { b.Name = "" },
		"no host":     func(b *api.Binding) { b.Hosts = nil },
		"host":        func(b *api.Binding) { b.Hosts = []string{"api.example.org", "*"} },
		"address":     func(b *api.Binding) { b.Hosts = []string{"10.0.0.1"} },
		"port":        func(b *api.Binding) { b.Hosts = []string{"api.example.org:0"} },
		"no rule":     func(b *api.Binding) { b.Inject = nil },
		"empty rule":  func(b *api.Binding) { b.Inject = append(rule(), &api.Rule{}) },
		"placeholder": func(b *api.Binding) { b.Placeholders = []string{"vault:x", ""} },
	}
	for name, breakIt := range broken {
		b := binding("bad", false, "api.example.org")
		breakIt(b)
		if tab, err := New([]*api.Binding{good, b}, nil, nil); err == nil || tab != nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := New([]*api.Binding{nil}, nil, nil); err == nil {
		t.Error("nil binding: accepted")
	}
	if _, err := New(nil, []*api.Destination{{Hosts: []string{"a b"}}}, nil); err == nil {
		t.Error("malformed destination: accepted")
	}
}

func TestPortsAndPlaceholders(t *testing.T) {
	a, b := binding("a", false, "x.example.com:8443"), binding("b", false, "y.example.com")
	b.Placeholders = []string{"vault:b", "sk_test_sallyport"}
	tab := table(t, []*api.Binding{b, a})
	for port, want := range map[uint16]bool{443: true, 80: true, 8443: true, 22: false, 0: false} {
		if tab.SpeaksHTTP(port) != want {
			t.Errorf("port %d: %v", port, !want)
		}
	}
	if got := tab.Placeholders(); !slices.Equal(got, []string{"sk_test_sallyport", "vault:a", "vault:b"}) {
		t.Errorf("placeholders %q", got)
	}
}

func TestStray(t *testing.T) {
	const block, literal, mask = api.Stray_STRAY_BLOCK, api.Stray_STRAY_LITERAL, api.Stray_STRAY_REDACT
	bound := binding("a", true, "model.example.com", "*.wild.example.com")
	bound.Stray = literal
	strict := binding("b", false, "strict.example.com")
	strict.Stray = block
	silent := binding("c", false, "silent.example.com")
	tab := table(t, []*api.Binding{bound, strict, silent},
		&api.Destination{Hosts: []string{"*.example.com", "strict.example.com", "silent.example.com"}, Stray: literal},
		&api.Destination{Hosts: []string{"www.example.com", "both.example.com"}, Stray: mask},
		&api.Destination{Hosts: []string{"both.example.com"}, Stray: literal},
		&api.Destination{Hosts: []string{"unsaid.example.com"}},
	)
	tests := []struct {
		host string
		port uint16
		want api.Stray
	}{
		{"model.example.com", 443, literal}, {"model.example.com", 80, literal}, {"model.example.com", 8443, block},
		{"strict.example.com", 443, block}, {"silent.example.com", 443, block}, {"www.example.com", 443, mask},
		{"both.example.com", 443, mask}, {"any.example.com", 443, literal}, {"any.example.com", 80, block},
		{"unsaid.example.com", 443, literal}, {"x.wild.example.com", 443, literal}, {"other.test", 443, block},
	}
	for _, tt := range tests {
		if got := tab.Stray(tt.host, tt.port); got != tt.want {
			t.Errorf("%s:%d: %v, want %v", tt.host, tt.port, got, tt.want)
		}
	}
}

// The table agrees with asking every pattern of every binding in turn.
func TestMatchAgreesWithPatterns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[ab](\.[ab]){1,3}`)
		pattern := rapid.Custom(func(t *rapid.T) string {
			s := name.Draw(t, "name")
			if strings.Count(s, ".") > 1 && rapid.Bool().Draw(t, "wildcard") {
				s = "*" + s[1:]
			}
			return s + rapid.SampledFrom([]string{"", ":443", ":80", ":8443"}).Draw(t, "port")
		})
		var bindings []*api.Binding
		for i := range rapid.IntRange(0, 6).Draw(t, "bindings") {
			b := binding(string(rune('a'+i)), rapid.Bool().Draw(t, "plain"), rapid.SliceOfN(pattern, 1, 3).Draw(t, "hosts")...)
			bindings = append(bindings, b)
		}
		tab, err := New(bindings, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		host, tls := name.Draw(t, "host"), rapid.Bool().Draw(t, "tls")
		port := rapid.SampledFrom([]uint16{443, 80, 8443}).Draw(t, "at")
		var exact, wild []*api.Binding
		for _, b := range bindings {
			if e, w := serves(b, host, port, tls); e {
				exact = append(exact, b)
			} else if w {
				wild = append(wild, b)
			}
		}
		best := exact
		if len(best) == 0 {
			best = wild
		}
		got, err := tab.match(host, port, tls)
		switch {
		case len(best) == 0 && (got != nil || err != nil),
			len(best) == 1 && (got != best[0] || err != nil),
			len(best) > 1 && (got != nil || !errors.Is(err, ErrTie)):
			t.Fatalf("got %v, %v of %v", got, err, best)
		}
	})
}

func serves(b *api.Binding, host string, port uint16, tls bool) (exact, wild bool) {
	for _, h := range b.Hosts {
		p, err := api.ParseHostPattern(h)
		if err != nil {
			panic(err)
		}
		at := port
		if !tls {
			if !b.AllowHttp || port == 443 {
				continue
			}
			if port == 80 && p.Port() == 443 {
				at = 443
			}
		}
		if p.Match(host, at) {
			exact, wild = exact || !p.Wildcard(), wild || p.Wildcard()
		}
	}
	return exact, wild
}

// Nobody gets a credential for a host that none of its patterns serves.
func FuzzMatch(f *testing.F) {
	f.Add("api.example.com", "*.example.com", uint16(443), true)
	f.Add("api.example.com", "example.com", uint16(443), true)
	f.Add("api.example.com.", "api.example.com:80", uint16(80), false)
	f.Fuzz(func(t *testing.T, host, pattern string, port uint16, tls bool) {
		b := binding("a", true, pattern)
		tab, err := New([]*api.Binding{b}, nil, nil)
		if err != nil {
			return
		}
		got, err := tab.match(host, port, tls)
		if err != nil {
			t.Fatal(err)
		}
		exact, wild := serves(b, host, port, tls)
		if (got != nil) != (exact || wild) {
			t.Fatalf("%s:%d against %s: %v", host, port, pattern, got)
		}
	})
}

func TestMatchAllocatesNothing(t *testing.T) {
	tab := table(t, []*api.Binding{binding("a", false, "*.example.com")})
	if n := testing.AllocsPerRun(100, func() {
		if b, err := tab.match("api.example.com", 443, true); b == nil || err != nil {
			t.Error("no match")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkMatch(b *testing.B) {
	tab := table(b, []*api.Binding{binding("a", false, "*.example.com"), binding("b", false, "api.example.org")})
	for b.Loop() {
		if got, _ := tab.match("api.example.com", 443, true); got == nil {
			b.Fatal("no match")
		}
	}
}
