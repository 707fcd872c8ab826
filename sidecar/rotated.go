package sidecar

import (
	"context"
	"slices"

	"sallyport/control/api"
)

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
