package store

import (
	"strings"
	"testing"
	"time"

	"sallyport/control"
)

// TestPresent: what waits, was captured and is used up is said of one agent, and nothing
// is taken by asking.
func TestPresent(t *testing.T) {
	f := newFixture(t)
	f.credential(f.vault("prod"), "stripe", "api.stripe.com")
	f.agent("billing", "prod")
	f.agent("idle", "prod")
	box := f.sandbox("billing")
	c := f.limit("stripe", control.Limits{Rate: 1, Budget: control.Budget{Requests: 3, Period: control.PeriodDay}, Approve: control.ApproveEach, ApproveTimeout: control.Seconds(time.Minute)})
	now := func(agent string) Present { return got(f.Present(t.Context(), f.Team.ID, agent, c))(t) }
	for range 3 {
		if p := now("billing"); p.Spent != 0 || p.Rate.Requests != 1 || p.Budget.Requests != 1 || p.Waiting+p.Captured != 0 || p.NoRoom != nil {
			t.Errorf("at first: %+v", p)
		}
	}
	if err := f.capture(box.ID, c.ID, captured(2, time.Hour)); err != nil {
		t.Fatal(err)
	}
	got(f.AskApproval(t.Context(), Question{TeamID: f.Team.ID, SandboxID: box.ID, CredentialID: c.ID, Version: 1, Host: "h", Port: 443, Method: "GET", Path: "/", Request: "r"}))(t)
	share := Share{f.Team.ID, box.ID, c.ID, 1, control.Ask{Rate: 1, Budget: 1}}
	if _, _, err := f.Allot(t.Context(), share); err != nil {
		t.Fatal(err)
	}
	if p := now("billing"); p.Spent != 1 || p.Rate.Requests != 0 || p.Rate.RetryAfter == 0 || p.Budget.Requests != 1 || p.Waiting != 1 || p.Captured != 2 {
		t.Errorf("then: %+v", p)
	}
	if p := now("idle"); p.Waiting+p.Captured != 0 {
		t.Errorf("of another agent: %+v", p)
	}
	share.Ask = control.Ask{Budget: 2}
	for range 2 {
		if _, _, err := f.Allot(t.Context(), share); err != nil {
			t.Fatal(err)
		}
	}
	none := int64(0)
	got(f.SetQuota(t.Context(), f.Team.ID, control.QuotaChange{Fetches: &none}, nil, testAct()))(t)
	if p := now("billing"); p.Spent != 3 || p.Budget.Requests != 0 || p.Budget.RetryAfter == 0 || p.NoRoom == nil || !strings.Contains(p.NoRoom.Error(), "--fetches") {
		t.Errorf("when all is used up: %+v", p)
	}
}
