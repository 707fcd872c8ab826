package api

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// HostPattern says which hosts a binding serves: one exact name, or every name
// one label below a suffix ("*.example.com"), at one port.
//
// The zero value matches nothing.
type HostPattern struct {
	name     string // normalised, without the "*."
	port     uint16
	wildcard bool
}

// DefaultPort is the port of a pattern that names none.
const DefaultPort = 443

// ParseHostPattern reads NAME, *.NAME, NAME:PORT or *.NAME:PORT.
func ParseHostPattern(s string) (HostPattern, error) {
	p := HostPattern{port: DefaultPort}
	rest := s
	if strings.Contains(s, "/") {
		return HostPattern{}, fmt.Errorf("host pattern %q: want NAME or NAME:PORT, without https:// and without a path", s)
	}
	if host, port, found := strings.Cut(rest, ":"); found {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return HostPattern{}, fmt.Errorf("host pattern %q: the port must be a number from 1 to 65535", s)
		}
		p.port, rest = uint16(n), host
	}
	if suffix, found := strings.CutPrefix(rest, "*."); found {
		p.wildcard, rest = true, suffix
	}
	name, err := NormalizeHost(rest)
	if err != nil {
		return HostPattern{}, fmt.Errorf("host pattern %q: %w", s, err)
	}
	if p.wildcard && !strings.Contains(name, ".") {
		return HostPattern{}, fmt.Errorf("host pattern %q: a wildcard needs at least two labels after it", s)
	}
	p.name = name
	return p, nil
}

// Match reports whether the pattern serves name, as NormalizeHost gives it, at port.
func (p HostPattern) Match(name string, port uint16) bool {
	if p.name == "" || p.port != port {
		return false
	}
	if !p.wildcard {
		return name == p.name
	}
	label, suffix, found := strings.Cut(name, ".")
	return found && label != "" && suffix == p.name
}

// Name is the pattern's host name, without "*." and port.
func (p HostPattern) Name() string { return p.name }

// Port is the port the pattern serves.
func (p HostPattern) Port() uint16 { return p.port }

// Wildcard reports whether the pattern serves the names one label below Name.
func (p HostPattern) Wildcard() bool { return p.wildcard }

// String is the pattern in the form ParseHostPattern reads.
func (p HostPattern) String() string {
	s := p.name
	if p.wildcard {
		s = "*." + s
	}
	if p.port != DefaultPort {
		s += ":" + strconv.Itoa(int(p.port))
	}
	return s
}

// NormalizeHost gives the one spelling of a host name that SNI, Host header and
// binding are compared in: lower case, no trailing dot, ASCII letters, digits and
// hyphens (RFC 1123 section 2.1), internationalised names as A-labels. Anything
// that has no such spelling, addresses included, is an error.
func NormalizeHost(host string) (string, error) {
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	switch {
	case name == "":
		return "", errors.New("the host name is empty")
	case len(name) > 253:
		return "", errors.New("the host name is longer than 253 bytes")
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return "", errors.New("an address is not a host name")
	}
	for label := range strings.SplitSeq(name, ".") {
		if err := checkLabel(label); err != nil {
			return "", err
		}
	}
	if last := name[strings.LastIndexByte(name, '.')+1:]; strings.Trim(last, "0123456789") == "" {
		return "", errors.New("a host name does not end in a number")
	}
	return name, nil
}

func checkLabel(label string) error {
	switch {
	case label == "":
		return errors.New("the host name has an empty label")
	case len(label) > 63:
		return fmt.Errorf("the label %q is longer than 63 bytes", label)
	case label[0] == '-' || label[len(label)-1] == '-':
		return fmt.Errorf("the label %q begins or ends with a hyphen", label)
	}
	for i := range len(label) {
		c := label[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			if c >= 0x80 {
				return errors.New("the host name is not ASCII; write it as an A-label (xn--…)")
			}
			return fmt.Errorf("the label %q has a character other than letters, digits and hyphens", label)
		}
	}
	return nil
}
