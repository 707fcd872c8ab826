package resolve

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"sallyport/control/api"
)

// redirect is one --connect-to: who asks for one host and port is connected to
// another. An empty host or port means any, or the same.
type redirect struct {
	fromHost string // name or address, normalised
	fromPort uint16
	toHost   string
	toPort   uint16
}

// parseConnectTo reads HOST1:PORT1:HOST2:PORT2 as curl does, IPv6 addresses in
// brackets.
func parseConnectTo(s string) (redirect, error) {
	var r redirect
	rest := s
	for i, field := range []struct {
		name string
		read func(string) error
	}{
		{"HOST1", func(text string) (err error) { r.fromHost, err = parseHost(text); return }},
		{"PORT1", func(text string) (err error) { r.fromPort, err = parsePort(text); return }},
		{"HOST2", func(text string) (err error) { r.toHost, err = parseHost(text); return }},
		{"PORT2", func(text string) (err error) { r.toPort, err = parsePort(text); return }},
	} {
		text, after, found := cutField(rest)
		if found == (i == 3) {
			return r, fmt.Errorf("connect-to %q: want HOST1:PORT1:HOST2:PORT2, with IPv6 addresses in brackets", s)
		}
		if err := field.read(text); err != nil {
			return r, fmt.Errorf("connect-to %q: %s: %w", s, field.name, err)
		}
		rest = after
	}
	return r, nil
}

// cutField cuts s at the first colon outside brackets.
func cutField(s string) (field, rest string, found bool) {
	if strings.HasPrefix(s, "[") {
		if end := strings.IndexByte(s, ']'); end >= 0 {
			after, found := strings.CutPrefix(s[end+1:], ":")
			if found || after == "" {
				return s[:end+1], after, found
			}
		}
	}
	return strings.Cut(s, ":")
}

func parseHost(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	if inner, found := strings.CutPrefix(text, "["); found {
		a, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		if err != nil || !a.Is6() || !strings.HasSuffix(text, "]") || a.Zone() != "" {
			return "", fmt.Errorf("%s is not an IPv6 address in brackets", text)
		}
		return a.Unmap().String(), nil
	}
	if a, err := netip.ParseAddr(text); err == nil {
		return a.String(), nil
	}
	return api.NormalizeHost(text)
}

func parsePort(text string) (uint16, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, errors.New("the port must be a number from 1 to 65535")
	}
	return uint16(n), nil
}

// target is what to connect to, and which of its addresses are allowed.
type target struct {
	host   string
	port   uint16
	permit func(netip.Addr) error
	named  bool // by the operator
}

// target applies the first redirect that matches, as curl does.
func (r *Resolver) target(host string, port uint16) target {
	t := target{host, port, r.guard.Public, false}
	for _, c := range r.connectTo {
		if c.fromHost != "" && c.fromHost != host || c.fromPort != 0 && c.fromPort != port {
			continue
		}
		if c.toPort != 0 {
			t.port = c.toPort
		}
		if c.toHost != "" {
			t.host, t.named, t.permit = c.toHost, true, r.guard.Named
			if _, err := netip.ParseAddr(c.toHost); err == nil {
				t.permit = r.guard.Literal
			}
		}
		return t
	}
	return t
}

// redirected reports whether connections to host go elsewhere on some port, so
// that its own addresses are nobody's business.
func (r *Resolver) redirected(host string) bool {
	for _, c := range r.connectTo {
		if (c.fromHost == "" || c.fromHost == host) && c.toHost != "" {
			return true
		}
	}
	return false
}
