package api

import (
	"fmt"
	"net/netip"
	"strings"
)

// PolicyHost is a host of a policy's rule: one exact name, the names below one,
// or addresses. Unlike a HostPattern it has no port.
//
// The zero value matches nothing.
type PolicyHost struct {
	name   string // normalised, without the "*." or "**."
	below  below
	prefix netip.Prefix
}

// below is how many labels a name must have more than the pattern's.
type below uint8

const (
	exactly  below = iota
	oneLabel       // "*."
	anyLabel       // "**.": at least one
)

// ParsePolicyHost reads NAME, *.NAME (one label below), **.NAME (any number of
// labels below, at least one), an address or a CIDR prefix. A prefix with bits
// beyond its length is an error: one of the two is a slip.
func ParsePolicyHost(s string) (PolicyHost, error) {
	if strings.Contains(s, "/") {
		return parsePrefix(s)
	}
	if address, err := netip.ParseAddr(s); err == nil {
		if address.Zone() != "" {
			return PolicyHost{}, fmt.Errorf("host %q: an address with a zone; leave the zone out", s)
		}
		address = address.Unmap()
		return PolicyHost{prefix: netip.PrefixFrom(address, address.BitLen())}, nil
	}
	h, name := PolicyHost{}, s
	if rest, found := strings.CutPrefix(name, "**."); found {
		h.below, name = anyLabel, rest
	} else if rest, found := strings.CutPrefix(name, "*."); found {
		h.below, name = oneLabel, rest
	}
	if s == "*" || s == "**" {
		return PolicyHost{}, fmt.Errorf("host %q: a rule without hosts is about any", s)
	}
	if strings.Contains(name, ":") {
		return PolicyHost{}, fmt.Errorf("host %q: a rule has its ports beside its hosts, not in them", s)
	}
	var err error
	if h.name, err = NormalizeHost(name); err != nil {
		return PolicyHost{}, fmt.Errorf("host %q: %w", s, err)
	}
	return h, nil
}

func parsePrefix(s string) (PolicyHost, error) {
	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		return PolicyHost{}, fmt.Errorf("host %q: want a name, an address or a prefix such as 192.0.2.0/24", s)
	}
	if prefix.Addr().Is4In6() {
		const mapped = 96 // bits before the IPv4 address, RFC 4291 section 2.5.5.2
		if prefix.Bits() < mapped {
			return PolicyHost{}, fmt.Errorf("host %q: a prefix of IPv4-mapped addresses; write the IPv4 prefix", s)
		}
		prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-mapped)
	}
	if prefix != prefix.Masked() {
		return PolicyHost{}, fmt.Errorf("host %q: the address has bits beyond its prefix; write %s, or the address alone", s, prefix.Masked())
	}
	return PolicyHost{prefix: prefix}, nil
}

// MatchName reports whether the pattern fits a name, as NormalizeHost gives it.
func (h PolicyHost) MatchName(name string) bool {
	if h.name == "" {
		return false
	}
	label, found := strings.CutSuffix(name, "."+h.name)
	switch h.below {
	case exactly:
		return name == h.name
	case oneLabel:
		return found && label != "" && !strings.Contains(label, ".")
	}
	return found && label != ""
}

// MatchAddr reports whether the pattern fits an address. An IPv4 address in its
// IPv6 form is the IPv4 address.
func (h PolicyHost) MatchAddr(address netip.Addr) bool {
	return h.prefix.IsValid() && h.prefix.Contains(address.Unmap())
}

// ExactName is the one name that the pattern fits; "" if it is none or several.
func (h PolicyHost) ExactName() string {
	if h.below != exactly {
		return ""
	}
	return h.name
}

// Wildcard reports whether the pattern fits the names below one.
func (h PolicyHost) Wildcard() bool { return h.below != exactly }

// Covers reports whether h fits every name and every address that other fits.
func (h PolicyHost) Covers(other PolicyHost) bool {
	switch {
	case other.prefix.IsValid():
		return h.prefix.IsValid() && h.prefix.Bits() <= other.prefix.Bits() && h.prefix.Contains(other.prefix.Addr())
	case other.name == "":
		return true
	case other.below == exactly:
		return h.MatchName(other.name)
	case h.below == anyLabel:
		return h.name == other.name || h.MatchName(other.name)
	}
	return h == other
}

// String is the pattern in the form ParsePolicyHost reads.
func (h PolicyHost) String() string {
	switch {
	case h.prefix.IsSingleIP():
		return h.prefix.Addr().String()
	case h.prefix.IsValid():
		return h.prefix.String()
	case h.below == oneLabel:
		return "*." + h.name
	case h.below == anyLabel:
		return "**." + h.name
	}
	return h.name
}
