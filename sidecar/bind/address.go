package bind

import (
	"net/netip"
	"slices"

	"sallyport/control/api"
)

// Connect decides about a connection of the sidecar's own, when it is known where
// the name host led; host is empty where an address itself was asked for. Later
// requests may use the connection too, so that methods and paths don't count: a
// rule that denies the address of some requests denies the connection, and one
// that allows some of them does not save it. Its error is a *DeniedError.
func (t *Table) Connect(host string, port uint16, address netip.Addr) error {
	d := Destination{Host: host, Address: address, Port: port}
	for i := range t.policy.rules {
		r := &t.policy.rules[i]
		if !slices.Contains(r.ports, port) {
			continue
		}
		_, fits := r.fits(d)
		switch {
		case !fits:
		case r.denies() && (!r.refined() || r.fitsAddress(address)):
			return &DeniedError{Rule: r.number}
		case !r.denies() && !r.refined():
			return nil
		}
	}
	return nil
}

// fitsAddress reports whether the rule names address.
func (r *policyRule) fitsAddress(address netip.Addr) bool {
	return slices.ContainsFunc(r.hosts, func(h api.PolicyHost) bool { return h.MatchAddr(address) })
}
