// Package bind decides which credential, if any, a destination gets, and by the
// agent's policy what may be reached beside. It knows names, ports and patterns,
// never a secret.
//
// A pattern serves one port: 443, or the one it names. A binding with
// allow_http also serves plain HTTP, on the port its pattern names, or on 80
// where the pattern names none. So "api.example.com" with allow_http serves
// TLS on 443 and plain HTTP on 80, and without it TLS on 443 alone.
//
// An exact name wins over a wildcard. Bindings that don't serve plain HTTP are
// not considered for it at all, so an exact one does not hide a wildcard there.
package bind

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"sallyport/control/api"
)

// ErrTie reports that two credentials serve one destination equally well.
// Neither is used.
var ErrTie = errors.New("two credentials serve the same host")

// TieError is an ErrTie that says which credentials tie.
type TieError struct {
	Pattern     string    // the host pattern both have
	Credentials [2]string // VAULT/NAME of each
}

func (e *TieError) Error() string {
	return fmt.Sprintf("%s is served by both %s and %s: unpin one vault, or give one of them another host",
		e.Pattern, e.Credentials[0], e.Credentials[1])
}

func (e *TieError) Unwrap() error { return ErrTie }

// place is a destination, or all destinations one label below it.
type place struct {
	name     string
	port     uint16
	wildcard bool
	tls      bool
}

// choice is what serves a place: a binding, or a tie.
type choice struct {
	binding *api.Binding
	tie     error
}

// Table is a set of bindings, ready to be asked. It does not change and may be
// used by several goroutines at once. The zero Table has none.
type Table struct {
	choices      map[place]choice
	strays       map[place]api.Stray // tls is not part of these keys
	ports        map[uint16]bool
	placeholders []string
	policy       policy
	mints        map[string][]mint  // by credential
	limits       map[string]*limits // by credential; none of one without

	captured             map[place][]*api.Binding
	capturedPlaceholders []string
}

const (
	httpsPort = api.DefaultPort
	httpPort  = 80
)

// New reads bindings, destinations and a policy; none means to inspect. One that
// is malformed makes the whole set unusable: the caller keeps the one it had.
func New(bindings []*api.Binding, destinations []*api.Destination, rules *api.Policy) (*Table, error) {
	p, err := newPolicy(rules)
	if err != nil {
		return nil, err
	}
	t := &Table{
		policy:  p,
		choices: make(map[place]choice),
		strays:  make(map[place]api.Stray),
		ports:   map[uint16]bool{httpsPort: true, httpPort: true},

		mints:    make(map[string][]mint),
		limits:   make(map[string]*limits),
		captured: make(map[place][]*api.Binding),
	}
	// Destinations first: what a binding says of the same pattern overrules them.
	for _, d := range destinations {
		if err := t.addDestination(d); err != nil {
			return nil, err
		}
	}
	bound := make(map[place]bool)
	for _, b := range bindings {
		if err := t.addBinding(b, bound); err != nil {
			return nil, fmt.Errorf("binding of %s: %w", label(b), err)
		}
	}
	slices.Sort(t.placeholders)
	t.placeholders = slices.Compact(t.placeholders)
	return t, nil
}

func (t *Table) addDestination(d *api.Destination) error {
	for _, h := range d.GetHosts() {
		p, err := api.ParseHostPattern(h)
		if err != nil {
			return fmt.Errorf("destination: %w", err)
		}
		t.addStray(place{name: p.Name(), port: p.Port(), wildcard: p.Wildcard()}, d.GetStray(), nil)
	}
	return nil
}

func (t *Table) addBinding(b *api.Binding, bound map[place]bool) error {
	if err := check(b); err != nil {
		return err
	}
	mints, err := newMints(b)
	if err != nil {
		return err
	}
	t.mints[b.GetCredentialId()] = mints
	limits, err := newLimits(b.GetLimits())
	if err != nil {
		return err
	}
	if limits != nil {
		t.limits[b.GetCredentialId()] = limits
	}
	for _, h := range b.GetHosts() {
		p, err := api.ParseHostPattern(h)
		if err != nil {
			return err
		}
		t.ports[p.Port()] = true
		for _, at := range places(p, b.GetAllowHttp()) {
			if b.GetCaptured() {
				t.captured[at] = append(t.captured[at], b)
				continue
			}
			t.addChoice(at, p.String(), b)
			at.tls = false
			t.addStray(at, b.GetStray(), bound)
		}
	}
	t.placeholders = append(t.placeholders, "vault:"+b.GetName())
	t.placeholders = append(t.placeholders, b.GetPlaceholders()...)
	if b.GetCaptured() {
		t.capturedPlaceholders = append(t.capturedPlaceholders, "vault:"+b.GetName())
	}
	return nil
}

// places are the destinations a pattern serves.
func places(p api.HostPattern, allowHTTP bool) []place {
	secure := place{name: p.Name(), port: p.Port(), wildcard: p.Wildcard(), tls: true}
	if !allowHTTP {
		return []place{secure}
	}
	plain := secure
	plain.tls = false
	if plain.port == httpsPort {
		plain.port = httpPort
	}
	return []place{secure, plain}
}

func (t *Table) addChoice(at place, pattern string, b *api.Binding) {
	have, taken := t.choices[at]
	switch {
	case !taken:
		t.choices[at] = choice{binding: b}
	case have.binding != nil && have.binding != b:
		t.choices[at] = choice{tie: &TieError{Pattern: pattern, Credentials: [2]string{label(have.binding), label(b)}}}
	}
}

// addStray notes a policy. Where two of a kind contradict each other the
// stricter one holds; bound, if not nil, says which places bindings have
// spoken for, overruling destinations.
func (t *Table) addStray(at place, s api.Stray, bound map[place]bool) {
	if s == api.Stray_STRAY_UNSPECIFIED {
		if bound == nil {
			return
		}
		s = api.Stray_STRAY_BLOCK
	}
	have, known := t.strays[at]
	if known && (bound == nil || bound[at]) && strictness(have) >= strictness(s) {
		return
	}
	t.strays[at] = s
	if bound != nil {
		bound[at] = true
	}
}

func strictness(s api.Stray) int {
	switch s {
	case api.Stray_STRAY_LITERAL:
		return 1
	case api.Stray_STRAY_REDACT:
		return 2
	}
	return 3
}

// check reports why a binding can't be used. A control plane newer than this
// sidecar may send rules it does not know; half a credential is never applied.
func check(b *api.Binding) error {
	switch {
	case b.GetCredentialId() == "" || b.GetVault() == "" || b.GetName() == "":
		return errors.New("it has no credential, vault or name")
	case len(b.GetHosts()) == 0:
		return errors.New("it names no host")
	case len(b.GetInject()) == 0:
		return errors.New("it has no inject rule")
	case slices.Contains(b.GetPlaceholders(), ""):
		return errors.New("it has an empty placeholder")
	}
	for _, r := range b.GetInject() {
		if r.GetPlace() == nil {
			return errors.New("it has an inject rule of a kind this sidecar does not know; a newer sidecar may")
		}
	}
	return nil
}

func label(b *api.Binding) string { return b.GetVault() + "/" + b.GetName() }

// match gives the binding that serves host, as api.NormalizeHost spells it, at
// port over TLS or plain HTTP. It is nil if none does. The error is an ErrTie
// if several do.
func (t *Table) match(host string, port uint16, tls bool) (*api.Binding, error) {
	if c, ok := t.choices[place{name: host, port: port, tls: tls}]; ok {
		return c.binding, c.tie
	}
	if suffix, ok := parent(host); ok {
		c := t.choices[place{name: suffix, port: port, wildcard: true, tls: tls}]
		return c.binding, c.tie
	}
	return nil, nil
}

// Stray is what happens to a placeholder on its way to host where nothing
// replaces it: what the binding or destination with the most specific pattern
// says, a binding before a destination, else STRAY_BLOCK.
func (t *Table) Stray(host string, port uint16) api.Stray {
	if s, ok := t.strays[place{name: host, port: port}]; ok {
		return s
	}
	if suffix, ok := parent(host); ok {
		if s, ok := t.strays[place{name: suffix, port: port, wildcard: true}]; ok {
			return s
		}
	}
	return api.Stray_STRAY_BLOCK
}

// parent is host without its first label.
func parent(host string) (string, bool) {
	first, rest, found := strings.Cut(host, ".")
	return rest, found && first != ""
}

// SpeaksHTTP reports whether HTTP may be spoken to port: 443, 80, and every port
// that a binding names, or a rule for more than passing through.
func (t *Table) SpeaksHTTP(port uint16) bool {
	return port == httpsPort || port == httpPort || t.ports[port] || slices.ContainsFunc(t.policy.rules, func(r policyRule) bool {
		return r.action == api.Action_ACTION_INSPECT && slices.Contains(r.ports, port)
	})
}

// Placeholders are the literals that stand for any of the credentials, sorted.
// The slice is the table's own.
func (t *Table) Placeholders() []string { return t.placeholders }
