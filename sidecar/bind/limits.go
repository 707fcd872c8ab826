package bind

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"sallyport/control/api"
)

// The limits that are kept without asking anybody.
var (
	ErrExpired = errors.New("it has expired")
	ErrMethod  = errors.New("it is not for the method")
	ErrOffPath = errors.New("it is not for the path")
)

// LimitError is a request that a credential is not for.
type LimitError struct {
	Credential string // VAULT/NAME
	Limit      error  // one of the above
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("the credential %s: %v", e.Credential, e.Limit)
}

// Code is what a client is told: limit_expired, limit_method or limit_path.
func (e *LimitError) Code() string {
	switch e.Limit {
	case ErrMethod:
		return "limit_method"
	case ErrOffPath:
		return "limit_path"
	}
	return "limit_expired"
}

func (e *LimitError) Unwrap() error { return e.Limit }

// limits are an api.Limits, ready to be asked.
type limits struct {
	*api.Limits
	expires time.Time // zero: never
	paths   [][]string
}

func newLimits(l *api.Limits) (*limits, error) {
	if l == nil {
		return nil, nil
	}
	if err := api.CheckLimits(l); err != nil {
		return nil, fmt.Errorf("limits: %w; a newer sidecar may know more", err)
	}
	compiled := &limits{Limits: l}
	if l.GetExpires() != nil {
		compiled.expires = l.GetExpires().AsTime()
	}
	for _, text := range l.GetPaths() {
		path, err := api.PathSegments(text)
		if err != nil {
			return nil, fmt.Errorf("limits: the path %q: %w", text, err)
		}
		compiled.paths = append(compiled.paths, path)
	}
	return compiled, nil
}

// allow reports why a request is not within the limits. They allow, so they are
// read narrowly: methods and paths to the letter.
func (l *limits) allow(r Request, now time.Time) error {
	if !l.expires.IsZero() && !now.Before(l.expires) {
		return ErrExpired
	}
	if methods := l.GetMethods(); len(methods) > 0 && !slices.Contains(methods, r.Method) {
		return ErrMethod
	}
	if len(l.paths) == 0 {
		return nil
	}
	asked, err := api.PathSegments(r.Path)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrPath, err)
	}
	same := func(a, b string) bool { return a == b }
	if !slices.ContainsFunc(l.paths, func(prefix []string) bool { return under(asked, prefix, same) }) {
		return ErrOffPath
	}
	return nil
}

// Use is a permitted request that a binding is for, within its limits. Nothing
// else gets the binding's credential.
type Use struct {
	permitted Permitted
	binding   *api.Binding
}

// Use checks the limits of a binding that serves the request: the one of Binding,
// or one of Captured. Its errors are a *LimitError and ErrPath.
func (p Permitted) Use(b *api.Binding, now time.Time) (Use, error) {
	if !p.serves(b) {
		return Use{}, errors.New("the binding is not one that serves the request")
	}
	if l := p.table.limits[b.GetCredentialId()]; l != nil {
		switch err := l.allow(p.request, now); {
		case errors.Is(err, ErrPath):
			return Use{}, err
		case err != nil:
			return Use{}, &LimitError{Credential: label(b), Limit: err}
		}
	}
	return Use{p, b}, nil
}

func (p Permitted) serves(b *api.Binding) bool {
	if p.table == nil || b == nil {
		return false
	}
	if b.GetCaptured() {
		return slices.Contains(p.Captured(), b)
	}
	own, err := p.Binding()
	return err == nil && own == b
}

// Binding is what is used.
func (u Use) Binding() *api.Binding { return u.binding }

// Is reports whether r is the request that the binding is used for, to the letter.
func (u Use) Is(r Request) bool { return u.binding != nil && u.permitted.Is(r) }

// Narrow reports whether a request's method or path decide about the use of the
// binding: it is for some of them only, or a person is asked about each.
func Narrow(b *api.Binding) bool {
	l := b.GetLimits()
	return len(l.GetMethods()) > 0 || len(l.GetPaths()) > 0 || l.GetApproval() == api.Approval_APPROVAL_EACH
}

// NextExpiry is when the next of the bindings expires, after now; zero if none does.
func (t *Table) NextExpiry(now time.Time) (next time.Time) {
	for _, l := range t.limits {
		if l.expires.After(now) && (next.IsZero() || l.expires.Before(next)) {
			next = l.expires
		}
	}
	return next
}
