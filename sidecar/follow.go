package sidecar

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"sallyport/control/api"
	"sallyport/sidecar/bind"
	"sallyport/sidecar/identity"
	"sallyport/sidecar/material"
	"sallyport/sidecar/proxy"
	"sallyport/sidecar/scan"
)

// served is what requests are decided by, whole: one revision, or the reason why
// nothing is served.
type served struct {
	revision uint64
	bound    []*api.Binding
	table    *bind.Table
	audit    api.AuditMode
	scanner  *scan.Scanner
	captured *scan.Scanner // for placeholders of captured credentials alone
	refusal  *proxy.Error
}

// nothing is served, for a reason.
func nothing(refusal *proxy.Error) *served {
	return &served{table: new(bind.Table), refusal: refusal}
}

var (
	errStarting = &proxy.Error{Status: http.StatusServiceUnavailable, Code: "starting", RetryAfter: time.Second,
		Message: "the sidecar has not heard from the control plane yet; try again"}
	errRevoked = &proxy.Error{Status: http.StatusForbidden, Code: "sandbox_revoked",
		Message: "this sandbox was removed or locked by its team; nothing is forwarded any more"}
	errAway = &proxy.Error{Status: http.StatusServiceUnavailable, Code: "control_plane_away", RetryAfter: 10 * time.Second,
		Message: "the control plane has been away for longer than bindings may serve; nothing is forwarded until it is back"}
)

// follow keeps what is served as the control plane says.
func (w *worker) follow(ctx context.Context) error {
	watcher := material.Watcher{
		Client:  w.identity.Client(),
		Apply:   w.apply,
		Revoked: w.revoke,
		Expired: func() { w.serveNothing(errAway) },
		Log:     w.log,
	}
	return watcher.Run(ctx)
}

// apply puts a revision in place. When it returns, the next request is decided
// by it, and nothing obtained before can be used for one.
func (w *worker) apply(m *api.WatchResponse) error {
	revision, bindings := m.GetRevision(), m.GetBindings()
	table, err := bind.New(bindings, m.GetDestinations(), m.GetPolicy())
	if err != nil {
		return err
	}
	versions, before := make(map[string]uint64, len(bindings)), make(map[string]uint64)
	for _, b := range bindings {
		versions[b.GetCredentialId()] = b.GetVersion()
		if f := b.GetFallback(); f != nil {
			before[b.GetCredentialId()] = f.GetVersion()
		}
	}
	next := &served{revision: revision, bound: bindings, table: table, audit: m.GetAuditMode(), scanner: scan.New(table.Placeholders()), captured: scan.New(table.CapturedPlaceholders())}
	w.serve(versions, before, next)
	w.log.Info("bindings applied", "revision", revision, "bindings", len(bindings), "policy_rules", len(m.GetPolicy().GetRules()))
	w.ready.Do(func() {
		if err := w.config.Ready(w.ca.CertificatePEM()); err != nil {
			w.fail(fmt.Errorf("say that the sandbox is served: %w", err))
		}
	})
	return nil
}

// serve changes what requests are decided by, and with it which leases and
// upstream connections may be used. What goes on without further requests and
// would be decided otherwise now is ended. before are the versions that overlap with
// those of versions.
func (w *worker) serve(versions, before map[string]uint64, next *served) {
	last := w.served.Load()
	w.fallbacks.Keep(before)
	w.proxy.Admit(versions, before) // a request may come between the next two
	w.leases.Replace(versions, func() {
		w.allotted.Keep(next.bound)
		w.desk.Keep(next.bound)
		w.served.Store(next)
	})
	w.announce()
	w.proxy.Keep(versions, before)
	if !next.table.SameAddresses(last.table) {
		w.proxy.DropIdle()
	}
	w.gate.Review()
	w.hear.Do(func() { close(w.heard) })
}

// patience is how long a request waits for bindings: those of a worker that has just
// taken over, and those that the control plane is about to send.
const patience = 5 * time.Second

// current is what a request is decided by.
func (w *worker) current(ctx context.Context) *served {
	if now := w.served.Load(); now.refusal != errStarting {
		return now
	}
	select {
	case <-w.heard:
	case <-ctx.Done():
	case <-time.After(patience):
	}
	return w.served.Load()
}

// await waits until what is served is as wanted, for a while, and reports whether it is.
func (w *worker) await(ctx context.Context, wanted func(*served) bool) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		w.changing.Lock()
		changed := w.changed
		w.changing.Unlock()
		if wanted(w.served.Load()) {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// announce wakes those who wait for a change of what is served.
func (w *worker) announce() {
	w.changing.Lock()
	defer w.changing.Unlock()
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *worker) serveNothing(refusal *proxy.Error) {
	w.serve(nil, nil, nothing(refusal))
	w.log.Warn("nothing is served", "code", refusal.Code, "reason", refusal.Message)
	if refusal == errRevoked {
		w.gate.CloseFlows() // with the requests under way, which may stream for hours
	}
}

func (w *worker) revoke() {
	w.serveNothing(errRevoked)
	w.ready.Do(func() { w.fail(errors.New("the control plane revoked the sandbox before it had begun")) })
}

// keepIdentity renews the certificate for as long as the control plane does.
func (w *worker) keepIdentity(ctx context.Context) error {
	err := w.identity.Run(ctx, func() error { return save(w.config.State, w.identity, w.ca) })
	if errors.Is(err, identity.ErrRevoked) || errors.Is(err, identity.ErrExpired) {
		w.serveNothing(errRevoked)
		return nil
	}
	return err
}
