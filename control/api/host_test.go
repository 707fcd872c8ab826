package api_test

import (
	"strings"
	"testing"

	"sallyport/control/api"
)

func TestHostPatternMatch(t *testing.T) {
	for _, tc := range []struct {
		pattern, name string
		port          uint16
		want          bool
	}{
		{"api.stripe.com", "api.stripe.com", 443, true},
		{"API.Stripe.com.", "api.stripe.com", 443, true},
		{"api.stripe.com", "api.stripe.com", 8443, false},
		{"api.stripe.com:8443", "api.stripe.com", 8443, true},
		{"api.stripe.com", "evil.api.stripe.com", 443, false},
		{"api.stripe.com", "api.stripe.com.evil.test", 443, false},
		{"*.example.com", "a.example.com", 443, true},
		{"*.example.com", "a.b.example.com", 443, false},
		{"*.example.com", "example.com", 443, false},
		{"*.example.com", ".example.com", 443, false},
		{"*.example.com", "aexample.com", 443, false},
		{"localhost", "localhost", 443, true},
	} {
		p, err := api.ParseHostPattern(tc.pattern)
		if err != nil {
			t.Fatalf("ParseHostPattern(%q): %v", tc.pattern, err)
		}
		if got := p.Match(tc.name, tc.port); got != tc.want {
			t.Errorf("%q.Match(%q, %d) = %v, want %v", tc.pattern, tc.name, tc.port, got, tc.want)
		}
		again, err := api.ParseHostPattern(p.String())
		if err != nil || again != p {
			t.Errorf("ParseHostPattern(%q) = %v, %v; want the same pattern", p.String(), again, err)
		}
	}
	if (api.HostPattern{}).Match("", 0) {
		t.Error("the zero pattern matches")
	}
}

func TestHostPatternRefused(t *testing.T) {
	for _, s := range []string{
		"", "*", "*.", "*.com", "**.example.com", "a.*.com", "foo*.example.com", "a..b", ".a", "a_b.example.com",
		"bücher.example", "a b.example", "a.example:0", "a.example:65536", "a.example:https", "a.example:1:2",
		"127.0.0.1", "::1", "[::1]", "1.2.3", "0x7f.1", "host.123", "-a.example", "a-.example", "user@host.example",
		"host.example/path", "a\x00.example", strings.Repeat("a", 64) + ".example", strings.Repeat("a.", 127) + "example",
	} {
		if p, err := api.ParseHostPattern(s); err == nil {
			t.Errorf("ParseHostPattern(%q) = %v, want an error", s, p)
		}
	}
}
