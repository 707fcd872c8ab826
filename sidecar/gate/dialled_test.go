package gate_test

import (
	"net/netip"
	"testing"

	"sallyport/sidecar/gate"
)

// TestDialledIsReviewed: whoever reviews a flow that is passed through is told
// what was connected to, whoever spoke first.
func TestDialledIsReviewed(t *testing.T) {
	for name, admit := range map[string]func(*gate.Flow) gate.Verdict{
		"client first": func(*gate.Flow) gate.Verdict { return gate.Verdict{} },
		"unknown":      through,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 25)
			upstream := upstreamOf(t, echo)
			want := netip.MustParseAddrPort(upstream).Addr()
			w.set(func() {
				w.admit, w.decide, w.upstream = admit, through, upstream
				w.still = func(f *gate.Flow, _ gate.Route) bool { return f.Dialled == want }
			})
			c := w.dial(t)
			exchange(t, c)
			w.set(func() {
				w.still = func(f *gate.Flow, _ gate.Route) bool { return f.Dialled != want }
			})
			w.gate.Review()
			if p := <-w.through; p.Reason != "policy_changed" {
				t.Errorf("told of %+v", p)
			}
		})
	}
}
