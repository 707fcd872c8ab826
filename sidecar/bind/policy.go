package bind

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"sallyport/control/api"
)

// ErrPath is a path that servers read in more than one way, where a rule goes by
// paths.
var ErrPath = errors.New("the path can be read in more than one way")

// DeniedError is a request or connection that the policy denies.
type DeniedError struct {
	Rule int // of the policy, from 1; 0 for its default
}

func (e *DeniedError) Error() string {
	if e.Rule == 0 {
		return "the agent's policy denies what none of its rules allows"
	}
	return fmt.Sprintf("rule %d of the agent's policy denies it", e.Rule)
}

// policy is a Policy, ready to be asked.
type policy struct {
	otherwise api.Action
	rules     []policyRule
}

// policyRule is a rule. Where it denies it is read broadly, where it allows
// narrowly: servers differ in whether they tell /Admin from /admin.
type policyRule struct {
	number  int
	action  api.Action
	hosts   []host // empty: any
	ports   []uint16
	named   bool // the rule names its ports
	methods []string
	paths   [][]string // segments
}

func newPolicy(p *api.Policy) (policy, error) {
	compiled := policy{otherwise: action(p.GetDefault())}
	if compiled.otherwise == api.Action_ACTION_UNSPECIFIED {
		return policy{}, errors.New("policy: its default is of a kind this sidecar does not know; a newer sidecar may")
	}
	for i, r := range p.GetRules() {
		rule, err := newPolicyRule(i+1, r)
		if err != nil {
			return policy{}, fmt.Errorf("policy: rule %d: %w", i+1, err)
		}
		compiled.rules = append(compiled.rules, rule)
	}
	return compiled, nil
}

// action is a with its default made plain; unspecified if it is not known.
func action(a api.Action) api.Action {
	switch a {
	case api.Action_ACTION_UNSPECIFIED:
		return api.Action_ACTION_INSPECT
	case api.Action_ACTION_INSPECT, api.Action_ACTION_PASSTHROUGH, api.Action_ACTION_DENY:
		return a
	}
	return api.Action_ACTION_UNSPECIFIED
}

func newPolicyRule(number int, r *api.PolicyRule) (policyRule, error) {
	rule := policyRule{number: number, action: action(r.GetAction()), methods: r.GetMethods(), ports: []uint16{httpsPort, httpPort}}
	if rule.action == api.Action_ACTION_UNSPECIFIED {
		return rule, errors.New("its action is of a kind this sidecar does not know; a newer sidecar may")
	}
	for _, text := range r.GetHosts() {
		h, err := parseHost(text)
		if err != nil {
			return rule, err
		}
		rule.hosts = append(rule.hosts, h)
	}
	if len(r.GetPorts()) > 0 {
		rule.ports, rule.named = nil, true
	}
	for _, port := range r.GetPorts() {
		if port == 0 || port > 65535 {
			return rule, fmt.Errorf("%d is not a port", port)
		}
		rule.ports = append(rule.ports, uint16(port))
	}
	for _, text := range r.GetPaths() {
		path, ok := segments(text)
		if !ok {
			return rule, fmt.Errorf("the path %q: %w", text, ErrPath)
		}
		rule.paths = append(rule.paths, path)
	}
	if rule.action == api.Action_ACTION_PASSTHROUGH && rule.refined() {
		return rule, errors.New("what is passed through is not read, so methods and paths have no place in it")
	}
	return rule, nil
}

// refined reports whether the rule is about requests and not whole connections.
func (r *policyRule) refined() bool { return len(r.methods) > 0 || len(r.paths) > 0 }

func (r *policyRule) denies() bool { return r.action == api.Action_ACTION_DENY }

// request reports whether the rule's methods and paths fit a request.
func (r *policyRule) request(method, path string) (bool, error) {
	same := func(a, b string) bool { return a == b }
	if r.denies() {
		same = strings.EqualFold
	}
	if len(r.methods) > 0 && !slices.ContainsFunc(r.methods, func(m string) bool { return same(m, method) }) {
		return false, nil
	}
	if len(r.paths) == 0 {
		return true, nil
	}
	asked, ok := segments(path)
	if !ok {
		return false, ErrPath
	}
	return slices.ContainsFunc(r.paths, func(prefix []string) bool { return under(asked, prefix, same) }), nil
}

// Destination is what is known of a connection.
type Destination struct {
	Host    string     // as api.NormalizeHost spells it; empty if the client named none
	Address netip.Addr // of a client that named no host what it asked for, of the sidecar's own connections what was dialled
	Port    uint16
	TLS     bool
	// Leads reports whether clients that ask for a name are led to Address. It is
	// asked of the names that rules have, where Host is empty.
	Leads func(name string) bool
}

// Route is what becomes of a connection.
type Route struct {
	Action api.Action
	Rule   int    // that decided, from 1; 0 for the default
	Host   string // to pass it through to; empty for its address
}

// Route decides about a connection. One that requests have to be seen of is
// inspected.
func (t *Table) Route(d Destination) Route {
	bound := d.Host != "" && t.bound(d.Host, d.Port, d.TLS)
	for i := range t.policy.rules {
		r := &t.policy.rules[i]
		if !slices.Contains(r.ports, d.Port) {
			continue
		}
		name, fits := r.fits(d)
		switch {
		case !fits:
		case r.refined(), bound && !r.denies():
			return Route{Action: api.Action_ACTION_INSPECT, Rule: r.number}
		default:
			return Route{Action: r.action, Rule: r.number, Host: name}
		}
	}
	return Route{Action: t.otherwise(d, bound), Host: d.Host}
}

// otherwise is what becomes of a connection that no rule fits. On other ports
// than those of HTTP nothing passes that is not named, and of connections to
// addresses nothing at all.
func (t *Table) otherwise(d Destination, bound bool) api.Action {
	switch {
	case bound:
		return api.Action_ACTION_INSPECT
	case d.Host == "", d.Port != httpsPort && d.Port != httpPort:
		return api.Action_ACTION_DENY
	}
	return t.policy.otherwise
}

// fits reports whether the rule's hosts are the destination's, and which name the
// rule has for it.
func (r *policyRule) fits(d Destination) (name string, fits bool) {
	if len(r.hosts) == 0 {
		return d.Host, d.Host != "" || r.denies()
	}
	for _, h := range r.hosts {
		switch {
		case h.prefix.IsValid():
			if d.Address.IsValid() && h.prefix.Contains(d.Address) {
				return d.Host, true
			}
		case d.Host != "":
			if h.match(d.Host) {
				return d.Host, true
			}
		case h.below == exactly && d.Leads != nil && d.Leads(h.name):
			return h.name, true
		}
	}
	return "", false
}

// Permit decides about a request to host, as api.NormalizeHost spells it, with
// the path as it was escaped. Its errors are a *DeniedError and ErrPath.
func (t *Table) Permit(host string, port uint16, tls bool, method, path string) error {
	d := Destination{Host: host, Port: port, TLS: tls}
	for i := range t.policy.rules {
		r := &t.policy.rules[i]
		if !slices.Contains(r.ports, port) {
			continue
		}
		if _, fits := r.fits(d); !fits {
			continue
		}
		fits, err := r.request(method, path)
		switch {
		case err != nil:
			return err
		case fits && r.denies():
			return &DeniedError{Rule: r.number}
		case fits:
			return nil
		}
	}
	if http := port == httpsPort || port == httpPort; http && t.policy.otherwise != api.Action_ACTION_DENY {
		return nil // whether it is bound or not
	}
	if t.otherwise(d, t.bound(host, port, tls)) == api.Action_ACTION_DENY {
		return &DeniedError{}
	}
	return nil
}

// Refined reports whether rules go by the methods or paths of requests to host.
func (t *Table) Refined(host string, port uint16) bool {
	return slices.ContainsFunc(t.policy.rules, func(r policyRule) bool {
		_, fits := r.fits(Destination{Host: host, Port: port})
		return fits && r.refined() && slices.Contains(r.ports, port)
	})
}

// bound reports whether a credential serves a destination, or several do.
func (t *Table) bound(host string, port uint16, tls bool) bool {
	binding, err := t.Match(host, port, tls)
	return binding != nil || err != nil
}

// PassesPort reports whether a rule names port for passing through, so that what
// is spoken there need not be TLS or HTTP.
func (t *Table) PassesPort(port uint16) bool {
	return slices.ContainsFunc(t.policy.rules, func(r policyRule) bool {
		return r.action == api.Action_ACTION_PASSTHROUGH && r.named && slices.Contains(r.ports, port)
	})
}

// Reachable reports whether anything at all may be sent to a host of that name.
func (t *Table) Reachable(host string) bool {
	for port := range t.ports {
		if t.reachable(host, port) {
			return true
		}
	}
	for _, r := range t.policy.rules {
		if slices.ContainsFunc(r.ports, func(port uint16) bool { return t.reachable(host, port) }) {
			return true
		}
	}
	return false
}

func (t *Table) reachable(host string, port uint16) bool {
	return t.Route(Destination{Host: host, Port: port, TLS: true}).Action != api.Action_ACTION_DENY ||
		t.Route(Destination{Host: host, Port: port}).Action != api.Action_ACTION_DENY
}
