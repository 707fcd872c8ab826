package sidecar

import (
	"fmt"
	"time"

	"sallyport/control/api"
	"sallyport/sidecar/bind"
	"sallyport/sidecar/material"
	"sallyport/sidecar/proxy"
)

// stands gives what is asked last before a request goes out with a credential: whether
// it would still be decided so. Between the decision and that may lie as long as its
// client likes, who sends the body that is held to be signed, and as its upstream likes,
// which has to be connected to. admitted are the limits that it was decided by.
func (w *worker) stands(then *served, admitted *api.Limits, lease *material.Lease, x *proxy.Exchange, asked bind.Request) func() error {
	id, version := lease.Credential()
	return func() error {
		if lease.Ended() {
			return fmt.Errorf("%w: the lease has ended before the request was sent", material.ErrUnavailable)
		}
		now := w.served.Load()
		if now == then && !expired(admitted, w.identity.Now()) {
			return nil
		}
		if now.refusal != nil {
			return now.refusal
		}
		permitted, err := now.table.Permit(asked)
		if err != nil {
			return err
		}
		b, same := serving(permitted, id)
		if !same || b.GetVersion() != version && !overlaps(b, version, w.identity.Now()) || wantsMore(b.GetLimits(), admitted) {
			return unavailable("credential_changing", "the credential for "+x.Host+" was changed before the request was sent; try again")
		}
		if !now.table.SameConnects(then.table, asked.Host, asked.Port) {
			return policyChanging(x)
		}
		_, err = permitted.Use(b, w.identity.Now())
		return err
	}
}

// standsBare is stands of a request without a credential.
func (w *worker) standsBare(then *served, x *proxy.Exchange, holds func() bool) func() error {
	return func() error {
		if w.served.Load() == then || holds() {
			return nil
		}
		return policyChanging(x)
	}
}

// policyChanging refuses what connects by rules that others have replaced.
func policyChanging(x *proxy.Exchange) error {
	return unavailable("policy_changing", "what the agent's policy says of "+x.Host+" was changed before the request was sent; try again")
}

// expired reports whether limits permit nothing any more.
func expired(l *api.Limits, now time.Time) bool {
	return l.GetExpires() != nil && !now.Before(l.GetExpires().AsTime())
}

// wantsMore reports whether limits want a person, or a count, of a request that was
// admitted by others which did not.
func wantsMore(l, admitted *api.Limits) bool {
	return l.GetApproval() > admitted.GetApproval() || l.GetRate() && !admitted.GetRate() || l.GetBudget() && !admitted.GetBudget()
}

// overlaps reports whether a version is the one before that of a binding, and good.
func overlaps(b *api.Binding, version uint64, now time.Time) bool {
	f := b.GetFallback()
	return f.GetVersion() == version && now.Before(f.GetUntil().AsTime())
}
