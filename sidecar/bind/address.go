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

// SameConnects reports whether Connect has the same rules to go by for a host as
// in another Table, so that what is connected still may stay.
func (t *Table) SameConnects(other *Table, host string, port uint16) bool {
	return t == other || slices.EqualFunc(t.connectRules(host, port), other.connectRules(host, port), (*policyRule).sameHosts)
}

// SameAddresses reports whether Connect has the same rules to go by for all hosts:
// neither Table denies addresses, or their rules differ in nothing that matters.
func (t *Table) SameAddresses(other *Table) bool {
	denies := func(r policyRule) bool { return r.denies() && slices.ContainsFunc(r.hosts, isAddress) }
	if !slices.ContainsFunc(t.policy.rules, denies) && !slices.ContainsFunc(other.policy.rules, denies) {
		return true
	}
	return slices.EqualFunc(t.policy.rules, other.policy.rules, func(a, b policyRule) bool {
		return a.sameHosts(&b) && a.refined() == b.refined() && slices.Equal(a.ports, b.ports)
	})
}

// connectRules are the rules for addresses that Connect may come to for a host.
func (t *Table) connectRules(host string, port uint16) []*policyRule {
	var rules []*policyRule
	d := Destination{Host: host, Port: port}
	for i := range t.policy.rules {
		r := &t.policy.rules[i]
		if !slices.Contains(r.ports, port) {
			continue
		}
		if slices.ContainsFunc(r.hosts, isAddress) && (r.denies() || !r.refined()) {
			rules = append(rules, r)
		}
		if _, fits := r.fits(d); fits && !r.refined() {
			break
		}
	}
	if !slices.ContainsFunc(rules, (*policyRule).denies) {
		return nil
	}
	return rules
}

// isAddress reports whether a pattern is about addresses and not names.
func isAddress(h api.PolicyHost) bool { return !h.Wildcard() && h.ExactName() == "" }

func (r *policyRule) sameHosts(other *policyRule) bool {
	return r.action == other.action && slices.Equal(r.hosts, other.hosts)
}

// AskedNames are the names that have to be known to lead to address or not, before
// a connection to it that names no host can be decided: those of the rules up to
// the last that may pass it through. There are none where none may.
func (t *Table) AskedNames(address netip.Addr, port uint16) []string {
	var names, needed []string
	for i := range t.policy.rules {
		r := &t.policy.rules[i]
		if !slices.Contains(r.ports, port) {
			continue
		}
		before := len(names)
		for _, h := range r.hosts {
			if name := h.ExactName(); name != "" {
				names = append(names, name)
			}
		}
		decides := r.fitsAddress(address) || len(r.hosts) == 0 && r.denies()
		if r.action == api.Action_ACTION_PASSTHROUGH && (len(names) > before || decides) {
			needed = names
		}
		if decides {
			break
		}
	}
	return needed
}
