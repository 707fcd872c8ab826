package store

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

// reports makes n events from a sequence number on.
func reports(from, n int) []Report {
	all := make([]Report, n)
	for i := range all {
		all[i] = report(uint64(from+i), "r")
	}
	return all
}

// A sandbox that was cut off may tell what it did before, and no more.
func TestReportsEndWithTheSandbox(t *testing.T) {
	for name, end := range map[string]func(f *fixture, id string) error{
		"revoked": func(f *fixture, id string) error {
			_, err := f.RevokeSandbox(f.t.Context(), f.Team.ID, id, testAct())
			return err
		},
		"locked": func(f *fixture, id string) error { return f.lockSandbox(f.t.Context(), f.Team.ID, id, "test") },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.agent("billing")
			late, flood := f.sandbox("billing"), f.sandbox("billing")
			for _, b := range []control.Sandbox{late, flood} {
				got(f.AppendEvents(t.Context(), f.Team.ID, b.ID, nil))(t) // opens its stream
				if err := end(f, b.ID); err != nil {
					t.Fatal(err)
				}
				got(f.AppendEvents(t.Context(), f.Team.ID, b.ID, reports(1, 10)))(t)
			}
			if _, err := f.pool.Exec(t.Context(), `update sandboxes set ended_at = ended_at - interval '61 seconds' where id = $1`, late.ID); err != nil {
				t.Fatal(err)
			}
			_, err := f.AppendEvents(t.Context(), f.Team.ID, late.ID, reports(11, 1))
			wantCode(t, err, control.CodeForbidden)

			if _, err := f.pool.Exec(t.Context(), `update sandboxes set late_events = $2 where id = $1`, flood.ID, lateEvents-1000); err != nil {
				t.Fatal(err)
			}
			got(f.AppendEvents(t.Context(), f.Team.ID, flood.ID, reports(1, 1000)))(t) // ten are known
			_, err = f.AppendEvents(t.Context(), f.Team.ID, flood.ID, reports(2001, 1000))
			wantCode(t, err, control.CodeForbidden)
		})
	}
}

// A hostile sidecar can't move its events in time.
func TestEventTimesAreBounded(t *testing.T) {
	f := newFixture(t)
	f.agent("billing")
	b := f.sandbox("billing")
	times := []time.Time{{}, time.Unix(0, 0), time.Now().Add(-time.Hour), time.Now().Add(time.Hour), time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)}
	for i, at := range times {
		r := report(uint64(i+1), "r")
		r.Event.Time = at
		got(f.AppendEvents(t.Context(), f.Team.ID, b.ID, []Report{r}))(t)
	}
	events, _, err := f.Events(t.Context(), f.Team.ID, Page{})
	if err != nil || len(events) != len(times) {
		t.Fatalf("%d events, %v", len(events), err)
	}
	for _, e := range events {
		if e.Time.Before(b.EnrolledAt.Add(-clockSkew)) || e.Time.After(time.Now().Add(clockSkew)) {
			t.Errorf("event %d is at %v", e.ID, e.Time)
		}
	}
}

// A hostile sidecar can't make it look as if it had used what it never could.
func TestOnlyOwnCredentialsAreNamed(t *testing.T) {
	f := newFixture(t)
	v, other := f.vault("prod"), f.vault("other")
	bound, foreign := f.credential(v, "stripe", "api.stripe.com"), f.credential(other, "github", "api.github.com")
	f.agent("billing", "prod")
	b := f.sandbox("billing")
	name := func(sequence uint64, id string) string {
		t.Helper()
		r := report(sequence, "r")
		r.CredentialID = id
		got(f.AppendEvents(t.Context(), f.Team.ID, b.ID, []Report{r}))(t)
		events, _, err := f.Events(t.Context(), f.Team.ID, Page{Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		return events[0].Credential
	}
	for i, id := range []string{foreign.ID, "prod/stripe", "payments/other", NewID()} {
		if named := name(uint64(i+1), id); named != "" {
			t.Errorf("%s is named %q", id, named)
		}
	}
	if named := name(5, bound.ID); named != "prod/stripe" {
		t.Errorf("a bound one is named %q", named)
	}
	got(f.grant(b.ID, bound.ID, 1))(t)
	got(f.Unpin(t.Context(), f.Team.ID, "billing", "prod", testAct()))(t)
	if named := name(6, bound.ID); named != "prod/stripe" {
		t.Errorf("one that was leased is named %q", named)
	}
}

// While one team's reports wait for its chain, others find a connection.
func TestReportsLeaveConnections(t *testing.T) {
	f := newFixture(t)
	f.agent("billing")
	b := f.sandbox("billing")
	held, err := f.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer held.Rollback(context.Background())
	if _, err := lockHead(t.Context(), held, f.Team.ID); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	const flood = 100
	done := make(chan struct{})
	for i := range flood {
		go func() {
			f.AppendEvents(ctx, f.Team.ID, b.ID, reports(i+1, 1))
			done <- struct{}{}
		}()
	}
	for len(f.reports) < cap(f.reports) {
		time.Sleep(time.Millisecond)
	}
	other, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	got(f.CreateTeam(other, "other", testAct()))(t)
	cancel()
	for range flood {
		<-done
	}
	if n := f.Store.pool.Config().MaxConns; n != maxConns {
		t.Errorf("%d connections", n)
	}
}

// Verifications read long, and who may only read can ask for many.
func TestVerificationsLeaveConnections(t *testing.T) {
	f := newFixture(t)
	owner, err := pgx.ConnectConfig(t.Context(), f.owner)
	if err != nil {
		t.Fatal(err)
	}
	defer owner.Close(context.Background())
	if _, err := owner.Exec(t.Context(), `begin; lock table audit_checkpoints`); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const flood = 100
	done := make(chan struct{}, flood)
	for range flood {
		go func() {
			f.Verify(ctx, f.Team.ID, "", nil)
			done <- struct{}{}
		}()
	}
	for len(f.reading) < cap(f.reading) {
		time.Sleep(time.Millisecond)
	}
	other, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	got(f.CreateTeam(other, "other", testAct()))(t)
	cancel()
	for range flood {
		<-done
	}
}

// TestLostRenewal: the answer to a renewal is given again for as long as it may have been
// lost, and then to nobody, who must be using a copy of the request.
func TestLostRenewal(t *testing.T) {
	f := newFixture(t)
	f.agent("billing")
	b := f.sandbox("billing")
	renew := func(from int64, request string) (int64, error) {
		if _, err := f.pool.Exec(t.Context(), `update sandboxes set renewed_at = renewed_at - $2::interval where id = $1`, b.ID, resendFor+time.Second); err != nil {
			t.Fatal(err)
		}
		return f.AdvanceGeneration(t.Context(), f.Team.ID, b.ID, from, hash(request))
	}
	confirm := func(generation int64) {
		t.Helper()
		if err := f.ConfirmGeneration(t.Context(), f.Team.ID, b.ID, generation); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		from    int64
		request string
	}{{1, "first"}, {1, "first"}, {2, "second"}, {2, "second"}} {
		if to := got(renew(step.from, step.request))(t); to != step.from+1 {
			t.Fatalf("from %d by %s: generation %d", step.from, step.request, to)
		}
		confirm(step.from) // late: it was of the one before
		confirm(9)
	}
	confirm(3)
	confirm(3)
	if to := got(f.AdvanceGeneration(t.Context(), f.Team.ID, b.ID, 3, hash("third")))(t); to != 4 {
		t.Fatalf("generation %d", to)
	}
	confirm(4)
	if to := got(f.AdvanceGeneration(t.Context(), f.Team.ID, b.ID, 3, hash("third")))(t); to != 4 {
		t.Fatalf("a call that came late led to generation %d", to)
	}
	_, err := renew(3, "third")
	wantCode(t, err, control.CodeForbidden)
	f.wantState(b.ID, control.SandboxLocked)
}
