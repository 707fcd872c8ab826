package bind

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"sallyport/control/api"
)

// ErrPath is a path that servers read in more than one way, as api.PathSegments
// says, where a rule goes by paths.
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
	hosts   []api.PolicyHost // empty: any
	ports   []uint16
	named   bool // the rule names its ports
	methods []string
	paths   [][]string // segments
}

func newPolicy(p *api.Policy) (policy, error) {
	if err := api.CheckPolicy(p); err != nil {
		return policy{}, fmt.Errorf("policy: %w; a newer sidecar may know more", err)
	}
	compiled := policy{otherwise: action(p.GetDefault())}
	for i, r := range p.GetRules() {
		rule, err := newPolicyRule(i+1, r)
		if err != nil {
			return policy{}, fmt.Errorf("policy: rule %d: %w", i+1, err)
		}
		compiled.rules = append(compiled.rules, rule)
	}
	return compiled, nil
}

// action is a with its default made plain.
func action(a api.Action) api.Action {
	if a == api.Action_ACTION_UNSPECIFIED {
		return api.Action_ACTION_INSPECT
	}
	return a
}

func newPolicyRule(number int, r *api.PolicyRule) (policyRule, error) {
	rule := policyRule{number: number, action: action(r.GetAction()), methods: r.GetMethods(), named: len(r.GetPorts()) > 0}
	for _, text := range r.GetHosts() {
		h, err := api.ParsePolicyHost(text)
		if err != nil {
			return rule, err
		}
		rule.hosts = append(rule.hosts, h)
	}
	for _, port := range r.GetPorts() {
		rule.ports = append(rule.ports, uint16(port))
	}
	if !rule.named {
		rule.ports = []uint16{httpsPort, httpPort}
	}
	for _, text := range r.GetPaths() {
		path, err := api.PathSegments(text)
		if err != nil {
			return rule, fmt.Errorf("the path %q: %w", text, err)
		}
		rule.paths = append(rule.paths, path)
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
	asked, err := api.PathSegments(path)
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrPath, err)
	}
	return slices.ContainsFunc(r.paths, func(prefix []string) bool { return under(asked, prefix, same) }), nil
}

// Destination is what is known of a connection.
type Destination struct {
	Host    string     // as api.NormalizeHost spells it; empty if the client named none
	Address netip.Addr // of a client that named no host what it asked for, of a connection of the sidecar's own what was dialled
	Port    uint16
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
	bound := t.boundAnyhow(d.Host, d.Port)
	for i := range t.policy.rules {
		r := &t.policy.rules[i]
		if !slices.Contains(r.ports, d.Port) {
			continue
		}
		name, fits := r.fits(d)
		switch {
		case !fits:
		case r.refined(), !r.denies() && (bound || t.boundAnyhow(name, d.Port)):
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
		case d.Address.IsValid() && h.MatchAddr(d.Address), d.Host != "" && h.MatchName(d.Host):
			return d.Host, true
		case d.Host == "" && d.Leads != nil && h.ExactName() != "" && d.Leads(h.ExactName()):
			return h.ExactName(), true
		}
	}
	return "", false
}

// Refined reports whether rules go by the methods or paths of requests to host.
func (t *Table) Refined(host string, port uint16) bool {
	return slices.ContainsFunc(t.policy.rules, func(r policyRule) bool {
		_, fits := r.fits(Destination{Host: host, Port: port})
		return fits && r.refined() && slices.Contains(r.ports, port)
	})
}

// Bound reports whether a credential serves a destination, or several do. It tells
// what to say of a request, and gives none.
func (t *Table) Bound(host string, port uint16, tls bool) bool {
	binding, err := t.match(host, port, tls)
	return binding != nil || err != nil || len(t.capturedAt(host, port, tls)) > 0
}

// boundAnyhow is bound over TLS or plain HTTP.
func (t *Table) boundAnyhow(host string, port uint16) bool {
	return host != "" && (t.Bound(host, port, true) || t.Bound(host, port, false))
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

// reachable reports whether a request to host at port could be permitted, or a
// connection passed through.
func (t *Table) reachable(host string, port uint16) bool {
	d := Destination{Host: host, Port: port}
	for i := range t.policy.rules {
		r := &t.policy.rules[i]
		if _, fits := r.fits(d); !fits || !slices.Contains(r.ports, port) {
			continue
		}
		if !r.denies() {
			return true
		}
		if !r.refined() {
			return false
		}
	}
	return t.otherwise(d, t.boundAnyhow(host, port)) != api.Action_ACTION_DENY
}

// under reports whether path is prefix or below it.
func under(path, prefix []string, same func(a, b string) bool) bool {
	if len(path) < len(prefix) {
		return false
	}
	for i, segment := range prefix {
		if !same(path[i], segment) {
			return false
		}
	}
	return true
}
