package store

import (
	"sync"
	"testing"
	"time"

	"sallyport/control"
)

// limit gives the fixture's credential limits.
func (f *fixture) limit(name string, l control.Limits) control.Credential {
	f.t.Helper()
	return got(f.SetLimits(f.t.Context(), f.Team.ID, "prod", name, nil, func(control.Limits) (control.Limits, error) { return l, nil }, testAct()))(f.t)
}

// Whatever many sandboxes ask for at once, and however many die with what they were
// given, no more than the budget is given.
func TestBudgetIsNotOverspent(t *testing.T) {
	f := newFixture(t)
	c := f.credential(f.vault("prod"), "stripe", "api.stripe.com")
	f.agent("billing", "prod")
	f.limit("stripe", control.Limits{Budget: control.Budget{Requests: 200}})
	var mu sync.Mutex
	var total int64
	var asking sync.WaitGroup
	for i := range 8 {
		sandbox := f.sandbox("billing")
		asking.Go(func() {
			for range 200 {
				_, budget, err := f.Allot(t.Context(), Share{f.Team.ID, sandbox.ID, c.ID, 1, control.Ask{Rate: 5, Budget: int64(1 + i*9)}})
				if err != nil {
					t.Error(err)
					return
				}
				if budget.Requests == 0 {
					return
				}
				mu.Lock()
				total += budget.Requests
				mu.Unlock()
			}
		})
	}
	asking.Wait()
	if total != 200 {
		t.Errorf("%d requests were allotted of 200", total)
	}
	if spent := got(f.Usage(t.Context(), f.Team.ID, got(f.Credential(t.Context(), f.Team.ID, "prod", "stripe"))(t)))(t); spent != 200 {
		t.Errorf("%d are counted", spent)
	}
	recorded := 0
	events, _, err := f.Events(t.Context(), f.Team.ID, Page{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Kind == "allot" {
			recorded++
		}
	}
	if recorded == 0 {
		t.Error("the audit log says nothing of it")
	}
	// A budget that was raised has room again, one that was lowered has none.
	f.limit("stripe", control.Limits{Budget: control.Budget{Requests: 201}})
	share := Share{f.Team.ID, f.sandbox("billing").ID, c.ID, 1, control.Ask{Budget: 64}}
	if _, budget, err := f.Allot(t.Context(), share); err != nil || budget.Requests != 1 {
		t.Errorf("of a raised budget: %+v, %v", budget, err)
	}
	f.limit("stripe", control.Limits{Budget: control.Budget{Requests: 5}})
	if _, budget, err := f.Allot(t.Context(), share); err != nil || budget.Requests != 0 || budget.RetryAfter != 0 {
		t.Errorf("of a lowered budget: %+v, %v", budget, err)
	}
}

// A captured credential spends what its origin may.
func TestCapturedSpendsOfItsOrigin(t *testing.T) {
	f := newFixture(t)
	origin := f.credential(f.vault("prod"), "stripe", "api.stripe.com")
	f.agent("billing", "prod")
	box := f.sandbox("billing")
	soon := time.Now().Add(time.Hour)
	f.limit("stripe", control.Limits{Methods: []string{"POST"}, Budget: control.Budget{Requests: 2}, ExpiresAt: &soon})
	secrets := captured(1, time.Minute)
	if err := f.capture(box.ID, origin.ID, secrets); err != nil {
		t.Fatal(err)
	}
	made := secrets[0].Credential
	shown := got(f.Credential(t.Context(), f.Team.ID, "prod", made.Name))(t)
	if len(shown.Limits.Methods) != 1 || shown.Limits.Budget.Requests != 2 || shown.Limits.ExpiresAt == nil {
		t.Errorf("its limits: %v", shown.Limits)
	}
	for i, want := range []struct {
		id string
		n  int64
	}{{made.ID, 1}, {origin.ID, 1}, {made.ID, 0}, {origin.ID, 0}} {
		_, budget, err := f.Allot(t.Context(), Share{f.Team.ID, box.ID, want.id, 1, control.Ask{Budget: 1}})
		if err != nil || budget.Requests != want.n {
			t.Errorf("%d: %+v, %v", i, budget, err)
		}
	}
	f.end(origin.ID)
	for _, id := range []string{made.ID, origin.ID} {
		if _, err := f.grant(box.ID, id, 1); control.CodeOf(err) != control.CodeNotFound {
			t.Errorf("a lease after the end: %v", err)
		}
		if _, err := f.Bound(t.Context(), f.Team.ID, box.ID, id, 1); control.CodeOf(err) != control.CodeNotFound {
			t.Errorf("the secret after the end: %v", err)
		}
		if _, _, err := f.Allot(t.Context(), Share{f.Team.ID, box.ID, id, 1, control.Ask{Budget: 1}}); control.CodeOf(err) != control.CodeNotFound {
			t.Errorf("an allotment after the end: %v", err)
		}
	}
}

// end makes a credential's end over.
func (f *fixture) end(credentialID string) {
	f.t.Helper()
	got(f.pool.Exec(f.t.Context(), `update credentials set ends_at = now() where id = $1`, credentialID))(f.t)
}

// No lease outlasts its credential.
func TestLeaseEndsWithItsCredential(t *testing.T) {
	f := newFixture(t)
	c := f.credential(f.vault("prod"), "stripe", "api.stripe.com")
	f.agent("billing", "prod")
	end := time.Now().Add(90 * time.Second).UTC().Truncate(time.Microsecond)
	f.limit("stripe", control.Limits{ExpiresAt: &end})
	box := f.sandbox("billing")
	if lease := got(f.grant(box.ID, c.ID, 1))(t); lease.HardExpiry.After(end) || lease.FreshUntil.After(end) {
		t.Errorf("a lease until %v and %v of a credential until %v", lease.FreshUntil, lease.HardExpiry, end)
	}
	if shown := got(f.Credential(t.Context(), f.Team.ID, "prod", "stripe"))(t).Limits.ExpiresAt; shown == nil || !shown.Equal(end) {
		t.Errorf("it ends %v", shown)
	}
	if held := got(f.Snapshot(t.Context(), f.Team.ID, box.ID))(t); len(held.Credentials) != 1 {
		t.Error("a sidecar has to be told of it, to say that it has expired")
	}
}
