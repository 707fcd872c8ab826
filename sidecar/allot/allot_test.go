package allot_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"sallyport/control"
	"sallyport/control/api"
	"sallyport/control/controltest"
	"sallyport/sidecar/allot"
)

var plane *controltest.Plane

func TestMain(m *testing.M) { controltest.Main(m, &plane) }

// box is a sandbox with a credential that has limits.
type box struct {
	ledger  *allot.Ledger
	binding *api.Binding
}

func newBox(t *testing.T, team *controltest.Team, c control.Credential, terms string) box {
	t.Helper()
	b := &api.Binding{CredentialId: c.ID, Version: 1, Limits: &api.Limits{Rate: c.Limits.Rate > 0, Budget: c.Limits.Budget.Requests > 0, Terms: terms}}
	l := allot.New(team.Join(t).Client)
	l.Keep([]*api.Binding{b})
	return box{l, b}
}

func limited(t *testing.T, limits map[string]any) (*controltest.Team, control.Credential) {
	t.Helper()
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_canary_1")
	var c control.Credential
	team.Must(t, "PATCH", "vaults/v/credentials/stripe", map[string]any{"limits": limits}, &c)
	return team, c
}

// Many sandboxes with many requests each, of which some workers die and begin anew:
// together they are let through as often as the budget says and not once more.
func TestBudgetOfManySandboxes(t *testing.T) {
	team, c := limited(t, map[string]any{"budget": "300/month"})
	var through, died atomic.Int64
	var asking sync.WaitGroup
	for i := range 6 {
		b := newBox(t, team, c, "t")
		for range 4 {
			asking.Go(func() {
				for {
					err := b.ledger.Take(t.Context(), b.binding)
					var exhausted *allot.ExhaustedError
					switch {
					case errors.As(err, &exhausted):
						if !exhausted.Budget || exhausted.RetryAfter <= 0 {
							t.Errorf("%+v", exhausted)
						}
						return
					case err != nil:
						t.Error(err)
						return
					}
					if through.Add(1)%50 == 0 && i == 0 {
						b.ledger.Keep(nil) // the worker dies with what it has
						b.ledger.Keep([]*api.Binding{b.binding})
						died.Add(1)
					}
				}
			})
		}
	}
	asking.Wait()
	n := through.Load()
	if n > 300 || died.Load() == 0 && n != 300 {
		t.Errorf("%d requests of 300 got through", n)
	}
	var shown control.Credential
	team.Must(t, "GET", "vaults/v/credentials/stripe", nil, &shown)
	if shown.Spent != 300 {
		t.Errorf("%d are counted", shown.Spent)
	}
}

func TestRateOfManySandboxes(t *testing.T) {
	team, c := limited(t, map[string]any{"rate": "40/min", "budget": "1000"})
	var through atomic.Int64
	var asking sync.WaitGroup
	began := time.Now()
	for range 4 {
		b := newBox(t, team, c, "t")
		asking.Go(func() {
			for {
				err := b.ledger.Take(t.Context(), b.binding)
				var exhausted *allot.ExhaustedError
				if errors.As(err, &exhausted) && !exhausted.Budget && exhausted.RetryAfter > 0 {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				through.Add(1)
			}
		})
	}
	asking.Wait()
	if n, most := float64(through.Load()), 40+40*time.Since(began).Minutes()+1; n > most || n < 20 {
		t.Errorf("%v requests got through, at most %v may", n, most)
	}
}

// lost is a control plane that is away.
type lost struct{}

func (lost) Allot(context.Context, *connect.Request[api.AllotRequest]) (*connect.Response[api.AllotResponse], error) {
	return nil, connect.NewError(connect.CodeUnavailable, errors.New("away"))
}

// Without a control plane nothing is let through, nor what was not asked for.
func TestFailClosed(t *testing.T) {
	l := allot.New(lost{})
	b := &api.Binding{CredentialId: "c", Limits: &api.Limits{Rate: true, Terms: "1"}}
	if err := l.Take(t.Context(), b); !errors.Is(err, allot.ErrSuperseded) {
		t.Errorf("a binding that is not served: %v", err)
	}
	l.Keep([]*api.Binding{b})
	if err := l.Take(t.Context(), b); !errors.Is(err, allot.ErrUnavailable) {
		t.Errorf("no control plane: %v", err)
	}
	other := &api.Binding{CredentialId: "c", Limits: &api.Limits{Rate: true, Terms: "2"}}
	if err := l.Take(t.Context(), other); !errors.Is(err, allot.ErrSuperseded) {
		t.Errorf("other terms: %v", err)
	}
}

// What was allotted is void when the limits change.
func TestChangedTerms(t *testing.T) {
	team, c := limited(t, map[string]any{"budget": "400"})
	b := newBox(t, team, c, "400")
	for range 20 { // so that some are left
		if err := b.ledger.Take(t.Context(), b.binding); err != nil {
			t.Fatal(err)
		}
	}
	team.Must(t, "PATCH", "vaults/v/credentials/stripe", map[string]any{"limits": map[string]any{"budget": "5"}}, nil)
	after := &api.Binding{CredentialId: c.ID, Version: 1, Limits: &api.Limits{Budget: true, Terms: "5"}}
	b.ledger.Keep([]*api.Binding{after})
	var exhausted *allot.ExhaustedError
	if err := b.ledger.Take(t.Context(), after); !errors.As(err, &exhausted) || exhausted.RetryAfter != 0 {
		t.Errorf("after the budget was lowered: %v", err)
	}
}

// rotated is a control plane whose credential has version 2, which it has not told all of.
type rotated struct{ first, goOn chan struct{} }

func (r rotated) Allot(_ context.Context, m *connect.Request[api.AllotRequest]) (*connect.Response[api.AllotResponse], error) {
	if m.Msg.GetVersion() != 2 {
		close(r.first)
		<-r.goOn
		return nil, connect.NewError(connect.CodeNotFound, errors.New("no such version"))
	}
	return connect.NewResponse(&api.AllotResponse{Rate: &api.Allotment{Requests: 1}}), nil
}

// TestAskedWithAnOldVersion: a request that is decided about by the new version is not
// refused since another, which was not, has asked for both.
func TestAskedWithAnOldVersion(t *testing.T) {
	control := rotated{make(chan struct{}), make(chan struct{})}
	l := allot.New(control)
	binding := func(version uint64) *api.Binding {
		return &api.Binding{CredentialId: "c", Version: version, Limits: &api.Limits{Rate: true, Terms: "1"}}
	}
	l.Keep([]*api.Binding{binding(1)})
	old, next := make(chan error, 1), make(chan error, 1)
	go func() { old <- l.Take(t.Context(), binding(1)) }()
	<-control.first
	l.Keep([]*api.Binding{binding(2)})
	go func() { next <- l.Take(t.Context(), binding(2)) }()
	select {
	case err := <-next:
		t.Errorf("it did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(control.goOn)
	if err := <-old; !errors.Is(err, allot.ErrSuperseded) {
		t.Errorf("by the old version: %v", err)
	}
	if err := <-next; err != nil {
		t.Errorf("by the new version: %v", err)
	}
}
