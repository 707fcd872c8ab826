package sidecar

import (
	"net/http"

	"sallyport/control/api"
	"sallyport/sidecar/bind"
	"sallyport/sidecar/inject"
	"sallyport/sidecar/material"
	"sallyport/sidecar/proxy"
	"sallyport/sidecar/redact"
)

// mostHeld bounds in bytes what the bodies of a sandbox's requests may hold that
// wait to be signed.
const mostHeld = 64 << 20

// signing is what a lease gives that signs requests.
type signing struct {
	*inject.Signing
	patterns *redact.Patterns // of what lasts; nil for nothing
	err      error
}

func newSigning(rules []*api.Rule, m api.Material) *signing {
	s := new(signing)
	if s.Signing, s.err = inject.NewSigning(rules, m); s.err != nil {
		return s
	}
	if lasting := s.Lasting(); len(lasting) > 0 {
		token := api.Material{Token: lasting}
		if s.err = redact.Check(token); s.err == nil {
			s.patterns = redact.Compile(token, nil)
		}
	}
	return s
}

// Wipe overwrites what was made.
func (s *signing) Wipe() {
	if s.Signing != nil {
		s.Signing.Wipe()
	}
	if s.patterns != nil {
		s.patterns.Wipe()
	}
}

// sign is the plan for a destination whose credential signs requests.
func (w *worker) sign(now *served, use bind.Use, lease *material.Lease, x *proxy.Exchange, r *http.Request) (*proxy.Plan, error) {
	binding := use.Binding()
	rules := binding.GetInject()
	made := lease.Derive(func(m api.Material) material.Wiper { return newSigning(rules, m) }).(*signing)
	if made.err != nil {
		lease.Release()
		return nil, made.err
	}
	s := &signed{signing: made}
	if made.patterns != nil {
		s.redactors = append(s.redactors, s.redactor(made.patterns))
	}
	plan := w.injection(now, use, lease, x, r)
	plan.Request = func(out *http.Request) error {
		s.signer = made.Begin(out, w.bodies)
		if err := cleared(now, use, out); err != nil {
			return err
		}
		if made.Once() {
			redact.Plain(out)
		} else {
			redact.Request(out)
		}
		if err := inject.Apply(out, rules, lease.Material()); err != nil {
			return err
		}
		return s.sign(out, use, lease)
	}
	plan.Response = s.response
	plan.Interim = func(h http.Header) {
		for _, r := range s.redactors {
			r.Header(h)
		}
	}
	plan.Release = func(x *proxy.Exchange) {
		for _, r := range s.redactors {
			x.Redactions += r.Count()
		}
		if s.signer != nil {
			s.signer.Release()
		}
		lease.Release()
	}
	return plan, nil
}

// signed is one request that is signed.
type signed struct {
	*signing
	signer    inject.Signer
	redactors []*redact.Redactor // of what lasts, then of the signature
}

func (s *signed) redactor(p *redact.Patterns) *redact.Redactor {
	if s.Once() {
		return p.Once()
	}
	return p.Redactor()
}

// sign signs what is about to be sent, which is still what was permitted.
func (s *signed) sign(out *http.Request, use bind.Use, lease *material.Lease) error {
	signature, err := s.signer.Sign(out, lease.Now())
	if err != nil {
		return err
	}
	if len(signature) > 0 {
		s.redactors = append(s.redactors, s.redactor(redact.CompileOnce(signature)))
	}
	return check(use, out)
}

func (s *signed) response(response *http.Response) error {
	for _, r := range s.redactors {
		if err := r.Response(response); err != nil {
			return err
		}
	}
	return nil
}
