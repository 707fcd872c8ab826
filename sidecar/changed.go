package sidecar

import (
	"context"
	"slices"
	"time"

	"sallyport/control/api"
	"sallyport/sidecar/proxy"
)

// giveUp is for a request that is decided about anew, as its credential was changed
// when it was about to be sent: that nothing was sent with it is on record if anything is.
func (w *worker) giveUp(x *proxy.Exchange) {
	if x.Credential == "" {
		return
	}
	if x.Intent == nil {
		w.events.Cancel()
	} else {
		last := *x
		last.Decision, last.Reason, last.Duration = proxy.Refuse, "credential_changing", time.Since(x.Start)
		w.record(&last)
	}
	x.Decision, x.Credential, x.Version, x.Lease, x.Intent = proxy.Refuse, "", 0, "", nil
}

// rotated gives a capture the version that its credential has now, which may have to be
// heard of first. It is false if there is no other.
func (w *worker) rotated(ctx context.Context, m *api.CaptureRequest) bool {
	for {
		now := w.served.Load()
		i := slices.IndexFunc(now.bound, func(b *api.Binding) bool { return b.GetCredentialId() == m.GetCredentialId() })
		switch {
		case i < 0:
			return false
		case now.bound[i].GetVersion() != m.GetVersion():
			m.Version = now.bound[i].GetVersion()
			return true
		case !w.await(ctx, func(served *served) bool { return served != now }):
			return false
		}
	}
}
