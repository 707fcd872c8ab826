package api

import (
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"
)

// A name that is accepted has one spelling, which is that of the DNS: x/net/idna
// looks up no other, and the public suffix list reads the same labels in it.
func FuzzNormalizeHost(f *testing.F) {
	for _, s := range []string{"API.Example.com.", "xn--mnchen-3ya.de", "a..b", "-a.b", "a_b.c", "127.0.0.1", "1.2.3", "0x7f.1", "[::1]", "a.com:443", "müller.de", "a\x00.com", "ⓐ.com", "localhost", strings.Repeat("a.", 127) + "b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := NormalizeHost(s)
		if err != nil {
			return
		}
		if again, err := NormalizeHost(name); err != nil || again != name {
			t.Fatalf("%q is %q, and that is %q, %v", s, name, again, err)
		}
		if other, err := NormalizeHost(strings.ToUpper(name) + "."); err != nil || other != name {
			t.Fatalf("%q in capitals and with a dot is %q, %v", name, other, err)
		}
		if _, err := netip.ParseAddr(name); err == nil {
			t.Fatalf("%q is an address", name)
		}
		if !strings.Contains(name, "xn--") && !oddHyphens(name) {
			if looked, err := idna.Lookup.ToASCII(s); err != nil || strings.TrimSuffix(looked, ".") != name {
				t.Fatalf("%q is %q here, and %q (%v) where names are looked up", s, name, looked, err)
			}
		}
		if suffix, _ := publicsuffix.PublicSuffix(name); name != suffix && !strings.HasSuffix(name, "."+suffix) {
			t.Fatalf("%q does not end in its public suffix %q", name, suffix)
		}
	})
}

// oddHyphens reports whether a label has hyphens where only an A-label may
// (RFC 5891 section 4.2.3.1). Some hosts of content networks do all the same.
func oddHyphens(name string) bool {
	for label := range strings.SplitSeq(name, ".") {
		if len(label) > 3 && label[2:4] == "--" {
			return true
		}
	}
	return false
}

// A pattern prints as what it was read from means, and fits no name but those it says.
func FuzzHostPattern(f *testing.F) {
	for _, s := range []string{"api.example.com", "*.Example.com:8443", "*.com", "a.b:0", "**.a.b", "*.*.a.b", ":443", "a:443:443"} {
		f.Add(s, "api.example.com", uint16(443))
	}
	f.Fuzz(func(t *testing.T, s, host string, port uint16) {
		p, err := ParseHostPattern(s)
		if err != nil {
			return
		}
		if again, err := ParseHostPattern(p.String()); err != nil || again != p {
			t.Fatalf("%q prints as %q, which is %v, %v", s, p, again, err)
		}
		name, err := NormalizeHost(host)
		if err != nil || !p.Match(name, port) {
			return
		}
		if labels := strings.Count(name, ".") - strings.Count(p.Name(), "."); port != p.Port() || p.Wildcard() != (labels == 1) || !strings.HasSuffix("."+name, "."+p.Name()) {
			t.Fatalf("%q fits %s:%d", s, name, port)
		}
	})
}

// A host of a policy prints as what it was read from means, and covers itself.
func FuzzPolicyHost(f *testing.F) {
	for _, s := range []string{"api.example.com", "*.example.com", "**.com", "10.0.0.0/8", "::ffff:10.0.0.0/104", "fe80::1%eth0", "192.0.2.1", "10.0.0.1/8", "**"} {
		f.Add(s, "a.b.example.com")
	}
	f.Fuzz(func(t *testing.T, s, host string) {
		h, err := ParsePolicyHost(s)
		if err != nil {
			return
		}
		if again, err := ParsePolicyHost(h.String()); err != nil || again != h || !h.Covers(again) {
			t.Fatalf("%q prints as %q, which is %v, %v", s, h, again, err)
		}
		if name, err := NormalizeHost(host); err == nil && h.MatchName(name) {
			if one, err := ParsePolicyHost(name); err != nil || !h.Covers(one) {
				t.Fatalf("%q fits %s and does not cover it", s, name)
			}
		}
	})
}

// A path that is read at all is read in one way: its segments, escaped again or
// not, are read as the same.
func FuzzPathSegments(f *testing.F) {
	for _, s := range []string{"/", "/v1/charges", "/v1//a", "/%2e%2e/a", "/a%2fb", "/a;b", "/%C3%A9", "/a%2525", "/a.", "/a%20", "/a/", "//"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		segments, err := PathSegments(s)
		if err != nil {
			return
		}
		var plain, escaped strings.Builder
		for _, segment := range segments {
			if segment == "" || segment == "." || segment == ".." || strings.ContainsAny(segment, "/\\;?#\x00\r\n") {
				t.Fatalf("%q has the segment %q", s, segment)
			}
			escaped.WriteByte('/')
			for i := range len(segment) {
				escaped.WriteString("%" + string("0123456789ABCDEF"[segment[i]>>4]) + string("0123456789abcdef"[segment[i]&15]))
			}
			plain.WriteString("/" + strings.ReplaceAll(segment, "%", "%25"))
		}
		for _, text := range []string{plain.String(), escaped.String(), escaped.String() + "/"} {
			again, err := PathSegments("/" + strings.TrimPrefix(text, "/"))
			if err != nil || strings.Join(again, "/") != strings.Join(segments, "/") {
				t.Fatalf("%q is %q, and %q of these segments is %q, %v", s, segments, text, again, err)
			}
		}
	})
}
