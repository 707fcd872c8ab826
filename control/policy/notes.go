package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"sallyport/control"
	"sallyport/control/api"
)

const (
	httpsPort = api.DefaultPort
	httpPort  = 80
)

// Notes says which rules of a policy, in its normal form, do something else than
// one would think: those that an earlier rule leaves nothing to, and those that
// meet the hosts of the agent's credentials.
func Notes(p control.Policy, credentials []control.Credential) []string {
	notes := []string{}
	rules := make([]rule, len(p.Rules))
	for i, r := range p.Rules {
		rules[i] = newRule(i+1, r)
		notes = append(notes, rules[i].after(rules[:i])...)
	}
	places := boundPlaces(credentials)
	for _, r := range rules {
		if r.Action == control.ActionPassthrough && len(r.Hosts) > 0 {
			if met := slices.DeleteFunc(slices.Clone(places), func(b place) bool { return !r.meets(b) }); len(met) > 0 {
				notes = append(notes, fmt.Sprintf("rule %d passes no connection to %s through: a bound host is always inspected", r.number, listed(met)))
			}
		}
	}
	denied := make(map[int][]place)
	for _, b := range places {
		i := slices.IndexFunc(rules, func(r rule) bool { return !r.refined() && r.covers(b) })
		if i >= 0 && rules[i].denies() {
			denied[i] = append(denied[i], b)
		}
	}
	for i, r := range rules {
		if len(denied[i]) > 0 {
			notes = append(notes, fmt.Sprintf("rule %d denies %s: a rule that denies holds for bound hosts too, --default deny would not", r.number, listed(denied[i])))
		}
	}
	return notes
}

// rule is a PolicyRule whose hosts are read and whose ports are named.
type rule struct {
	control.PolicyRule
	number int
	hosts  []api.PolicyHost // empty: any
	ports  []uint32
}

func newRule(number int, r control.PolicyRule) rule {
	ports := r.Ports
	if len(ports) == 0 {
		ports = []uint32{httpsPort, httpPort}
	}
	return rule{PolicyRule: r, number: number, hosts: hosts(r.Hosts), ports: ports}
}

func (r rule) denies() bool { return r.Action == control.ActionDeny }

// refined reports whether the rule is about requests and not whole connections.
func (r rule) refined() bool { return len(r.Methods) > 0 || len(r.Paths) > 0 }

// after says what the rules before r leave to it, if that is not all.
func (r rule) after(earlier []rule) []string {
	var partly string
	for _, e := range earlier {
		if !containsAll(e.ports, r.ports) {
			continue
		}
		passes := r.Action == control.ActionPassthrough
		if !passes && !e.coversRequests(r) || !e.coversNamed(r) {
			continue
		}
		read, all := passes && e.refined(), e.coversUnnamed(r)
		switch {
		case read && all:
			return []string{fmt.Sprintf("rule %d passes nothing through: rule %d has the requests to its hosts read", r.number, e.number)}
		case read:
			partly = cmp.Or(partly, fmt.Sprintf("rule %d passes only connections through that name no host: rule %d has the requests of all others read", r.number, e.number))
		case all:
			return []string{fmt.Sprintf("rule %d never applies: rule %d fits all that it does", r.number, e.number)}
		default:
			partly = cmp.Or(partly, fmt.Sprintf("rule %d applies only to connections that name no host: rule %d fits all others first", r.number, e.number))
		}
	}
	if partly == "" {
		return nil
	}
	return []string{partly}
}

// coversNamed reports whether e's hosts are all of r's, for connections that
// name a host.
func (e rule) coversNamed(r rule) bool {
	if len(e.hosts) == 0 {
		return true
	}
	return len(r.hosts) > 0 && !slices.ContainsFunc(r.hosts, func(h api.PolicyHost) bool { return !e.coversHost(h) })
}

// coversUnnamed is the same for those that name none. There, wildcards fit
// nothing, exact names the addresses that the agent was told for them, and a
// rule without hosts only if it denies.
func (e rule) coversUnnamed(r rule) bool {
	if len(r.hosts) == 0 {
		return !r.denies() || e.denies() && len(e.hosts) == 0
	}
	return !slices.ContainsFunc(r.hosts, func(h api.PolicyHost) bool {
		switch {
		case h.Wildcard():
			return false
		case len(e.hosts) == 0:
			return !e.denies()
		case h.ExactName() != "":
			return !slices.Contains(e.hosts, h)
		}
		return !e.coversHost(h)
	})
}

func (e rule) coversHost(h api.PolicyHost) bool {
	return slices.ContainsFunc(e.hosts, func(own api.PolicyHost) bool { return own.Covers(h) })
}

// coversRequests reports whether e's methods and paths are all of r's. A rule
// that denies is read broadly, /Admin as /admin; so one that does not leaves
// something to it.
func (e rule) coversRequests(r rule) bool {
	same := func(a, b string) bool { return a == b }
	if e.denies() {
		same = strings.EqualFold
	}
	narrower := r.denies() && !e.denies()
	return covers(e.Methods, r.Methods, narrower, same) &&
		covers(e.Paths, r.Paths, narrower, func(own, other string) bool { return under(other, own, same) })
}

// covers reports whether each of other is covered by one of own; none is all.
func covers(own, other []string, narrower bool, one func(own, other string) bool) bool {
	switch {
	case len(own) == 0:
		return true
	case len(other) == 0 || narrower:
		return false
	}
	return !slices.ContainsFunc(other, func(o string) bool {
		return !slices.ContainsFunc(own, func(mine string) bool { return one(mine, o) })
	})
}

// under reports whether path is prefix or below it.
func under(path, prefix string, same func(a, b string) bool) bool {
	below, err := api.PathSegments(path)
	if err != nil {
		return false
	}
	above, err := api.PathSegments(prefix)
	return err == nil && len(below) >= len(above) && slices.EqualFunc(below[:len(above)], above, same)
}

func containsAll[T comparable](all, some []T) bool {
	return !slices.ContainsFunc(some, func(v T) bool { return !slices.Contains(all, v) })
}
