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
// client likes, who sends the body that is held to be signed.
func (w *worker) stands(then *served, lease *material.Lease, x *proxy.Exchange, asked bind.Request) func() error {
	id, version := lease.Credential()
	return func() error {
		if lease.Ended() {
			return fmt.Errorf("%w: the lease has ended before the request was sent", material.ErrUnavailable)
		}
		now := w.served.Load()
		if now == then {
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
		if !same || b.GetVersion() != version && !overlaps(b, version, w.identity.Now()) || wantsMore(b.GetLimits(), then.limits(asked, id)) {
			changed := unavailable("credential_changing", "the credential for "+x.Host+" was changed before the request was sent; try again")
			changed.Cause = proxy.ErrChanged
			return changed
		}
		_, err = permitted.Use(b, w.identity.Now())
		return err
	}
}

// limits are those of a credential that serves a request.
func (s *served) limits(asked bind.Request, credential string) *api.Limits {
	permitted, _ := s.table.Permit(asked) // which permits nothing if it fails
	b, _ := serving(permitted, credential)
	return b.GetLimits()
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
