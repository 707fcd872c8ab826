package agentapi_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"connectrpc.com/connect"

	"sallyport/control/api"
	"sallyport/control/controltest"
)

// limited calls until it is told to come later.
func limited(t *testing.T, call func() error) {
	t.Helper()
	for range 1000 {
		if err := call(); connect.CodeOf(err) == connect.CodeResourceExhausted {
			return
		}
	}
	t.Error("a thousand calls in a row are not limited")
}

// What one sandbox calls in a loop, it is told to wait for, and others are served.
// TestPaces has every call, also those that are allowed more often than a test can call.
func TestCallsAreLimited(t *testing.T) {
	team := plane.NewTeam(t)
	c := team.Setup(t, "sk_live_1")
	modest := team.Join(t)
	for name, call := range map[string]func(s *controltest.Sidecar) error{
		"Fetch": func(s *controltest.Sidecar) error {
			_, err := s.Fetch(t.Context(), c.ID, 1, "evil.test")
			return err
		},
		"Watch": func(s *controltest.Sidecar) error {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			w := s.Client.Watch(ctx)
			w.Send(&api.WatchRequest{})
			_, err := w.Receive()
			return err
		},
		"Renew": func(s *controltest.Sidecar) error {
			_, err := s.Renew(t.Context(), controltest.CSR(t, plane.NewSidecar(t).Key), 1)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			greedy := team.Join(t)
			before := plane.Metric(t, "sallyport_control_sidecar_calls_total")
			limited(t, func() error { return call(greedy) })
			if plane.Metric(t, "sallyport_control_sidecar_calls_total") == before {
				t.Error("nothing was counted")
			}
			alerts := 0
			if name == "Fetch" { // material is what is worth a word
				limited(t, func() error { return call(greedy) })
				alerts = 1
			}
			if n := events(t, team, "sandbox.alert", greedy.ID); n != alerts {
				t.Errorf("%d alerts", n)
			}
		})
	}
	if _, err := modest.Fetch(t.Context(), c.ID, 1, "api.stripe.com"); err != nil {
		t.Errorf("another sandbox: %v", err)
	}
}

func flood(from uint64) *connect.Request[api.ReportRequest] {
	events := make([]*api.Event, 1000)
	for i := range events {
		events[i] = &api.Event{Sequence: from + uint64(i), Host: strings.Repeat("h", 250), Path: strings.Repeat("p", 1024)}
	}
	return connect.NewRequest(&api.ReportRequest{Events: events})
}

// One sandbox reports one batch at a time, however many connections it opens,
// and no more events than a worker can have.
func TestReportFlood(t *testing.T) {
	team, other := plane.NewTeam(t), plane.NewTeam(t)
	team.Setup(t, "sk_live_1")
	c := other.Setup(t, "sk_live_2")
	evil, victim := team.Join(t), other.Join(t)
	var stored, refused atomic.Int64
	var group sync.WaitGroup
	for i := range 32 {
		group.Go(func() {
			for j := range 2 {
				_, err := evil.Client.Report(t.Context(), flood(uint64(i*2+j)*1000+1))
				switch connect.CodeOf(err) {
				case connect.CodeResourceExhausted:
					refused.Add(1)
				default:
					if err != nil {
						t.Error(err)
					}
					stored.Add(1)
				}
			}
		})
	}
	if _, err := victim.Fetch(t.Context(), c.ID, 1, "api.stripe.com"); err != nil {
		t.Errorf("meanwhile, another team: %v", err)
	}
	group.Wait()
	if refused.Load() < stored.Load() {
		t.Errorf("%d batches were stored and %d refused", stored.Load(), refused.Load())
	}
}
