package bind

import (
	"slices"

	"sallyport/control/api"
)

// Request is what the policy is asked about, and what a credential is for.
type Request struct {
	Host   string // as api.NormalizeHost spells it
	Port   uint16
	TLS    bool
	Method string
	Path   string // as it is escaped in what is sent
}

// Permitted is a request that the policy permits. Nothing else gives a binding: for
// what nobody asked the policy about, there is none. What a binding is used for is
// a Use.
type Permitted struct {
	request Request
	table   *Table
}

// Permit decides about a request. Its errors are a *DeniedError and ErrPath.
func (t *Table) Permit(r Request) (Permitted, error) {
	if err := t.decide(r); err != nil {
		return Permitted{}, err
	}
	return Permitted{r, t}, nil
}

// Binding gives the binding that serves the request, nil if none does. The error is
// an ErrTie if several do.
func (p Permitted) Binding() (*api.Binding, error) {
	if p.table == nil {
		return nil, nil // nothing was permitted
	}
	return p.table.match(p.request.Host, p.request.Port, p.request.TLS)
}

// Is reports whether r is the request that was permitted, to the letter.
func (p Permitted) Is(r Request) bool { return p.table != nil && p.request == r }

func (t *Table) decide(asked Request) error {
	host, port, tls, method, path := asked.Host, asked.Port, asked.TLS, asked.Method, asked.Path
	d := Destination{Host: host, Port: port}
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
	if t.otherwise(d, t.Bound(host, port, tls)) == api.Action_ACTION_DENY {
		return &DeniedError{}
	}
	return nil
}
