package sidecar

import (
	"context"
	"net/http"
	"time"

	"sallyport/control/api"
	"sallyport/sidecar/bind"
	"sallyport/sidecar/inject"
	"sallyport/sidecar/material"
	"sallyport/sidecar/proxy"
	"sallyport/sidecar/redact"
)

const (
	// fallbackWait is how long a request waits for the version before its own. Without
	// it there is no falling back, which is no reason to keep the request.
	fallbackWait = 2 * time.Second
	// fellBack is the reason in the event of a request that was sent again.
	fellBack = "fell_back"
)

// overlap has plan, of a request with a version that another overlaps with, fall back
// to that one.
func (w *worker) overlap(ctx context.Context, now *served, use bind.Use, plan *proxy.Plan, x *proxy.Exchange, r *http.Request) {
	b, rules := use.Binding(), use.Binding().GetInject()
	f := b.GetFallback()
	if !w.maskBefore(ctx, use, plan, x) {
		return
	}
	asked := requestOf(x, r)
	plan.Fallback = func(ctx context.Context) *proxy.Plan {
		again := w.fallBack(ctx, now, use, x, asked)
		if again == nil {
			return nil
		}
		token := again.Material()
		return &proxy.Plan{
			Decision:   proxy.Inject,
			Credential: b.GetCredentialId(),
			Version:    f.GetVersion(),
			Lease:      again.ID(),
			Holds:      plan.Holds,
			Stands:     w.stands(now, b.GetLimits(), again, x, asked),
			Request: func(out *http.Request) error {
				if err := cleared(now, use, out); err != nil {
					return err
				}
				redact.Request(out)
				return inject.Apply(out, rules, token)
			},
			Response: plan.Response,
			Interim:  plan.Interim,
			Release:  func(*proxy.Exchange) { again.Release() },
		}
	}
}

// maskBefore has the version that overlaps with plan's be looked for in the answer too,
// whichever that is to, and reports whether there is one.
func (w *worker) maskBefore(ctx context.Context, use bind.Use, plan *proxy.Plan, x *proxy.Exchange) bool {
	b, rules := use.Binding(), use.Binding().GetInject()
	f := b.GetFallback()
	if f == nil || !w.identity.Now().Before(f.GetUntil().AsTime()) || inject.Signs(rules) || presents(rules) {
		return false
	}
	waiting, cancel := context.WithTimeout(ctx, fallbackWait)
	defer cancel()
	lease, err := w.fallbacks.Get(waiting, b.GetCredentialId(), f.GetVersion(), x.Host)
	if err != nil {
		w.log.Debug("no version to fall back to", "credential", b.GetCredentialId(), "version", f.GetVersion(), "error", err)
		return false
	}
	if redact.Check(lease.Material()) != nil {
		lease.Release()
		return false
	}
	redactor := lease.Derive(func(m api.Material) material.Wiper {
		return redact.Compile(m, inject.Rendered(rules, m))
	}).(*redact.Patterns).Redactor()
	response, interim, release := plan.Response, plan.Interim, plan.Release
	plan.Response = func(r *http.Response) error {
		if err := response(r); err != nil {
			return err
		}
		return redactor.Response(r)
	}
	plan.Interim = func(h http.Header) {
		interim(h)
		redactor.Header(h)
	}
	plan.Release = func(x *proxy.Exchange) {
		release(x)
		x.Redactions += redactor.Count()
		lease.Release()
	}
	return true
}

// fallBack leases the version before for a request whose own was answered 401, and
// records what came of that. nil: it may not be sent again. It is a request of its own
// for the credential's limits, and for audit.
func (w *worker) fallBack(ctx context.Context, now *served, use bind.Use, x *proxy.Exchange, asked bind.Request) *material.Lease {
	b := use.Binding()
	f := b.GetFallback()
	if !w.identity.Now().Before(f.GetUntil().AsTime()) {
		return nil
	}
	if l := b.GetLimits(); (l.GetRate() || l.GetBudget()) && w.allotted.Take(ctx, b) != nil {
		return nil
	}
	if !w.events.Reserve(ctx) {
		return nil
	}
	// Again: what took time may have ended the overlap, and a revision done away with it.
	lease, err := w.fallbacks.Get(ctx, b.GetCredentialId(), f.GetVersion(), x.Host)
	if err == nil {
		if err = w.stands(now, b.GetLimits(), lease, x, asked)(); err != nil {
			lease.Release()
		}
	}
	if err != nil {
		w.events.Cancel()
		return nil
	}
	first := *x
	first.Status, first.Reason, first.Duration = http.StatusUnauthorized, fellBack, time.Since(x.Start)
	w.record(&first)
	x.Intent = nil
	return lease
}
