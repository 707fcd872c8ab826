package sidecar

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	"sallyport/control/api"
	"sallyport/sidecar/bind"
	"sallyport/sidecar/gate"
	"sallyport/sidecar/inject"
	"sallyport/sidecar/match"
	"sallyport/sidecar/material"
	"sallyport/sidecar/proxy"
	"sallyport/sidecar/redact"
	"sallyport/sidecar/scan"
	"sallyport/sidecar/socket"
)

func facts(c net.Conn) proxy.Facts {
	flow := gate.FlowOf(c)
	return proxy.Facts{SNI: flow.Name, Port: flow.Original.Port(), TLS: flow.TLS, HTTP2: flow.Protocol == "h2", Direct: flow.Direct}
}

// plan decides about one request: which credential it gets, if any, and what is
// looked for on its way out and on the way back.
func (w *worker) plan(ctx context.Context, x *proxy.Exchange, r *http.Request) (*proxy.Plan, error) {
	for {
		now := w.current(ctx)
		plan, err := w.decideBy(ctx, now, x, r)
		// What the control plane has changed already, the next revision says.
		if !superseded(err) || !w.await(ctx, func(served *served) bool { return served != now }) {
			return plan, err
		}
	}
}

// decideBy is plan by one revision.
func (w *worker) decideBy(ctx context.Context, now *served, x *proxy.Exchange, r *http.Request) (*proxy.Plan, error) {
	if now.refusal != nil {
		return nil, now.refusal
	}
	permitted, err := permit(now, x, r)
	if err != nil {
		return nil, err
	}
	binding, err := choose(now, permitted, x, r)
	if errors.Is(err, errGone) && now.revision < w.captured.Load() {
		return nil, material.ErrSuperseded // it may have been captured a moment ago
	}
	if err != nil {
		return nil, err
	}
	if binding == nil {
		return w.inspect(now, x, r), nil
	}
	use, err := within(permitted, binding, x, r, w.identity.Now())
	if err != nil {
		return nil, err
	}
	newSecrets, err := mintRule(permitted, binding, x, r)
	if err != nil {
		return nil, err
	}
	if err := w.admitUse(ctx, binding, x, r); err != nil {
		return nil, err
	}
	if !w.events.Reserve(ctx) {
		return nil, auditFull("no credential is used", w.events.Exhausted())
	}
	plan, err := w.lease(ctx, now, use, x, r)
	switch {
	case err != nil:
		w.events.Cancel()
	case newSecrets != nil: // which may be made once
		w.maskBefore(ctx, use, plan, x)
		w.withhold(ctx, plan, &handOut{worker: w, binding: binding, rule: newSecrets, exchange: x})
	default:
		w.overlap(ctx, now, use, plan, x, r)
	}
	return plan, err
}

// lease is the plan for a destination with a credential, once a place for the
// request's event is reserved.
func (w *worker) lease(ctx context.Context, now *served, use bind.Use, x *proxy.Exchange, r *http.Request) (*proxy.Plan, error) {
	if w.served.Load() != now { // it waited for a person, a count or the place
		return nil, material.ErrSuperseded
	}
	binding := use.Binding()
	lease, err := w.leases.Get(ctx, binding.GetCredentialId(), binding.GetVersion(), x.Host)
	if binding.GetCaptured() && errors.Is(err, material.ErrRefused) {
		answer := gone(x)
		answer.Cause = err
		return nil, answer
	}
	if err != nil {
		return nil, err
	}
	return w.use(now, use, lease, x, r)
}

// inspect is the plan for a destination without a credential.
func (w *worker) inspect(now *served, x *proxy.Exchange, r *http.Request) *proxy.Plan {
	stray := now.table.Stray(x.Host, x.Port)
	holds := w.holds(now, x, r, "")
	return &proxy.Plan{
		Decision: proxy.Inspect,
		Request: func(out *http.Request) error {
			err := strayPlaceholders(out, now.scanner, stray)
			return inClear(now, x, err)
		},
		Holds:  holds,
		Stands: w.standsBare(now, x, holds),
	}
}

// use is the plan for a destination with a credential.
func (w *worker) use(now *served, use bind.Use, lease *material.Lease, x *proxy.Exchange, r *http.Request) (*proxy.Plan, error) {
	binding := use.Binding()
	switch {
	case inject.Signs(binding.GetInject()):
		return w.sign(now, use, lease, x, r)
	case presents(binding.GetInject()):
		return w.present(now, use, lease, x, r)
	}
	token := lease.Material()
	if err := redact.Check(token); err != nil {
		lease.Release()
		return nil, err
	}
	patterns := lease.Derive(func(m api.Material) material.Wiper {
		return redact.Compile(m, inject.Rendered(binding.GetInject(), m))
	}).(*redact.Patterns)
	redactor := patterns.Redactor()
	plan := w.injection(now, use, lease, x, r)
	plan.Upgrade = binding.GetAllowWebsocket()
	plan.Request = func(out *http.Request) error {
		if err := cleared(now, use, out); err != nil {
			return err
		}
		redact.Request(out)
		return inject.Apply(out, binding.GetInject(), token)
	}
	plan.Response = redactor.Response
	plan.Messages = messages(redactor.Search, now.scanner, binding.GetStray())
	plan.Interim = func(h http.Header) { redactor.Header(h) }
	plan.Release = func(x *proxy.Exchange) {
		x.Redactions = redactor.Count()
		lease.Release()
	}
	return plan, nil
}

// injection is what the plans for a destination with a credential have in common,
// however it is applied.
func (w *worker) injection(now *served, use bind.Use, lease *material.Lease, x *proxy.Exchange, r *http.Request) *proxy.Plan {
	binding := use.Binding()
	return &proxy.Plan{
		Decision:   proxy.Inject,
		Credential: binding.GetCredentialId(),
		Version:    binding.GetVersion(),
		Lease:      lease.ID(),
		Holds:      w.holds(now, x, r, binding.GetCredentialId()),
		Stands:     w.stands(now, binding.GetLimits(), lease, x, requestOf(x, r)),
	}
}

// cleared makes sure that a request is the one that was permitted, and takes out of it
// what its client has put where the credential goes.
func cleared(now *served, use bind.Use, out *http.Request) error {
	if err := check(use, out); err != nil {
		return err
	}
	inject.Clear(out, use.Binding().GetInject())
	return strayPlaceholders(out, now.scanner, use.Binding().GetStray())
}

// messages searches the messages of a WebSocket: for material, as responses says, those
// of the upstream, for placeholders those of the client.
func messages(responses func() match.Search, scanner *scan.Scanner, stray api.Stray) proxy.Messages {
	return func(client, upstream io.Writer) (toClient, toUpstream io.WriteCloser) {
		if stray == api.Stray_STRAY_LITERAL {
			return socket.NewWriter(client, socket.Server, responses()), nil
		}
		return socket.Join(client, upstream, responses(), scanner.Search(stray))
	}
}

// strayPlaceholders handles the placeholders that are left in a request when
// those in the credential's own places were cleared.
func strayPlaceholders(out *http.Request, scanner *scan.Scanner, stray api.Stray) error {
	switch stray {
	case api.Stray_STRAY_LITERAL:
		return nil
	case api.Stray_STRAY_REDACT:
		if err := maskHead(out, scanner); err != nil {
			return err
		}
	default:
		if name, found := strayInHead(out, scanner); found {
			return &scan.StrayError{Placeholder: name}
		}
	}
	if out.Body != nil && out.Body != http.NoBody {
		out.Body = &trailerScan{ReadCloser: scanner.Reader(out.Body, stray), request: out, scanner: scanner, stray: stray}
	}
	return nil
}

func strayInHead(out *http.Request, scanner *scan.Scanner) (string, bool) {
	if name, found := scanner.String(out.URL.RequestURI()); found {
		return name, true
	}
	return strayInFields(out.Header, scanner)
}

func strayInFields(fields http.Header, scanner *scan.Scanner) (string, bool) {
	for name, values := range fields {
		if placeholder, found := scanner.String(name); found {
			return placeholder, true
		}
		for _, value := range values {
			if placeholder, found := scanner.String(value); found {
				return placeholder, true
			}
		}
	}
	return "", false
}

func maskHead(out *http.Request, scanner *scan.Scanner) error {
	path, n := scanner.Mask(out.URL.EscapedPath())
	if n > 0 {
		plain, err := url.PathUnescape(path)
		if err != nil {
			return fmt.Errorf("mask the path: %w", err)
		}
		out.URL.Path, out.URL.RawPath = plain, path
	}
	out.URL.RawQuery, _ = scanner.Mask(out.URL.RawQuery)
	maskFields(out.Header, scanner)
	return nil
}

func maskFields(fields http.Header, scanner *scan.Scanner) {
	for _, values := range fields {
		for i, value := range values {
			values[i], _ = scanner.Mask(value)
		}
	}
}

// trailerScan handles the trailers too, which are known when the body was read.
type trailerScan struct {
	io.ReadCloser
	request *http.Request
	scanner *scan.Scanner
	stray   api.Stray
}

func (t *trailerScan) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p)
	if err != io.EOF {
		return n, err
	}
	if t.stray == api.Stray_STRAY_REDACT {
		maskFields(t.request.Trailer, t.scanner)
	} else if name, found := strayInFields(t.request.Trailer, t.scanner); found {
		return 0, &scan.StrayError{Placeholder: name}
	}
	return n, err
}
