package sidecar

import (
	"crypto/tls"
	"net/http"

	"sallyport/control/api"
	"sallyport/sidecar/bind"
	"sallyport/sidecar/inject"
	"sallyport/sidecar/match"
	"sallyport/sidecar/material"
	"sallyport/sidecar/proxy"
	"sallyport/sidecar/redact"
)

// certificate is a client certificate with its key, of one lease.
type certificate struct {
	pair tls.Certificate
	err  error
}

// Wipe forgets the key. crypto/tls keeps it in numbers that can't be overwritten;
// those under way in a handshake keep it until that is over.
func (c *certificate) Wipe() { c.pair = tls.Certificate{} }

// presents reports whether a rule has a client certificate shown.
func presents(rules []*api.Rule) bool {
	for _, rule := range rules {
		if rule.GetClientCertificate() != nil {
			return true
		}
	}
	return false
}

// present is the plan for a destination that is shown a client certificate. Nothing
// of that is in a request, so the answer has nothing to be searched for.
func (w *worker) present(now *served, use bind.Use, lease *material.Lease, x *proxy.Exchange, r *http.Request) (*proxy.Plan, error) {
	binding := use.Binding()
	made := lease.Derive(func(m api.Material) material.Wiper {
		c := new(certificate)
		c.pair, c.err = tls.X509KeyPair(m.Token, m.Token)
		return c
	}).(*certificate)
	switch {
	case made.err != nil:
		lease.Release()
		return nil, proxy.Errorf(http.StatusForbidden, "credential_unfit", "the client certificate for %s and its key can't be read", x.Host)
	case !x.TLS:
		lease.Release()
		return nil, proxy.Errorf(http.StatusBadRequest, "plain_http", "the credential for %s is a client certificate, which plain HTTP has no place for; use https", x.Host)
	}
	shown := made.pair
	plan := w.injection(now, use, lease, x, r)
	plan.Certificate = &shown
	plan.Upgrade = binding.GetAllowWebsocket()
	plan.Request = func(out *http.Request) error {
		if err := cleared(now, use, out); err != nil {
			return err
		}
		if plan.Messages != nil {
			redact.DropExtensions(out)
		}
		return inject.Apply(out, binding.GetInject(), lease.Material())
	}
	plan.Release = func(*proxy.Exchange) { lease.Release() }
	if stray := binding.GetStray(); plan.Upgrade && stray != api.Stray_STRAY_LITERAL {
		plan.Messages = messages(nothingTold, now.scanner, stray)
		plan.Response = redact.CheckExtensions
	}
	return plan, nil
}

// nothingTold looks for nothing in what an upstream says that was told no secret.
func nothingTold() match.Search {
	return match.Search{Set: match.Compile(nil), Found: func(int, []byte) error { return nil }}
}
