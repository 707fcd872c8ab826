// Package reach says which addresses may be dialled on behalf of somebody who is
// not the machine's operator. Both sides dial by it.
package reach

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// ErrForbidden is a destination inside the machine, its network or its
// cloud, which only its operator may name.
var ErrForbidden = errors.New("the address is not a public one")

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

// metadata services of clouds hand out the machine's own credentials to whoever asks.
func metadata() []netip.Prefix {
	return prefixes(
		"169.254.0.0/16",     // link-local; metadata at AWS, GCP, Azure, ECS, EKS
		"100.100.100.200/32", // metadata at Alibaba
		"168.63.129.16/32",   // Azure's WireServer, a public address
		"192.0.0.192/32",     // metadata at Oracle
		"fe80::/10",          // link-local
		"fd00:ec2::/32",      // metadata at AWS
		"fd20:ce::/32",       // metadata at GCP
	)
}

// wrapped addresses hold an IPv4 address, any of all, inside.
func wrapped() []netip.Prefix {
	return prefixes(
		"::ffff:0:0/96",  // IPv4-mapped
		"64:ff9b::/96",   // NAT64
		"64:ff9b:1::/48", // NAT64 of a site
		"2001::/32",      // Teredo
		"2002::/16",      // 6to4
	)
}

// private addresses lead nowhere that is public (IANA's special-purpose
// registries, RFC 6890).
func private() []netip.Prefix {
	return prefixes(
		"0.0.0.0/8",       // this network
		"10.0.0.0/8",      // private
		"100.64.0.0/10",   // carrier-grade NAT
		"127.0.0.0/8",     // loopback
		"172.16.0.0/12",   // private
		"192.0.0.0/24",    // protocol assignments
		"192.0.2.0/24",    // documentation
		"192.88.99.0/24",  // 6to4 relays
		"192.168.0.0/16",  // private
		"198.18.0.0/15",   // benchmarks; our synthetic answers
		"198.51.100.0/24", // documentation
		"203.0.113.0/24",  // documentation
		"224.0.0.0/4",     // multicast
		"240.0.0.0/4",     // reserved, broadcast
		"2001::/23",       // protocol assignments: ORCHID, benchmarks
		"2001:db8::/32",   // documentation
		"3fff::/20",       // documentation
	)
}

// globalUnicast is all that is assigned of IPv6. Loopback, unique local,
// multicast, IPv4-mapped and NAT64 addresses lie outside.
func globalUnicast() netip.Prefix { return netip.MustParsePrefix("2000::/3") }

// Guard says which addresses may be dialled.
type Guard struct {
	metadata, wrapped, private []netip.Prefix
	globalUnicast              netip.Prefix
}

// NewGuard makes a Guard.
func NewGuard() Guard { return Guard{metadata(), wrapped(), private(), globalUnicast()} }

// Public allows public addresses only.
func (g Guard) Public(a netip.Addr) error {
	if g.never(a) || contains(g.private, a) || a.Is6() && !g.globalUnicast.Contains(a) {
		return fmt.Errorf("%w: %s", ErrForbidden, a)
	}
	return nil
}

// Named allows what an operator may mean by naming a host, private addresses
// too. Not those by which a name server would get at the machine's credentials.
func (g Guard) Named(a netip.Addr) error {
	if g.never(a) {
		return fmt.Errorf("%w: %s; if it is meant, give connect-to the address instead of a name", ErrForbidden, a)
	}
	return nil
}

// Literal allows every address: an operator wrote it down.
func (g Guard) Literal(netip.Addr) error { return nil }

func (g Guard) never(a netip.Addr) bool {
	return !a.IsValid() || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() || contains(g.metadata, a) || contains(g.wrapped, a)
}

func contains(all []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(all, func(p netip.Prefix) bool { return p.Contains(a) })
}
