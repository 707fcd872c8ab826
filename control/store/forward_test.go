package store

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
)

// behind gives how far a receiver is in f's team's chain, and where that ends.
func (f *fixture) behind(r *Forward) (b Behind) {
	f.t.Helper()
	for _, b := range got(r.Behind(f.t.Context()))(f.t) {
		if b.TeamID == f.Team.ID {
			return b
		}
	}
	return Behind{}
}

// TestForward: one process has a receiver's place, which outlives it; a new receiver begins
// with the first event.
func TestForward(t *testing.T) {
	f := newFixture(t)
	f.acts(5)
	first := got(f.Forward(t.Context(), "siem", nil))(t)
	b := f.behind(first)
	events := got(first.Events(t.Context(), b, 3))(t)
	if b.Position != 0 || len(events) != 3 || events[0].ID != 1 || b.Team != "default" {
		t.Fatalf("it begins with %+v, %+v", b, events)
	}
	if second := got(f.Forward(t.Context(), "siem", nil))(t); second != nil {
		t.Fatal("two have its place")
	}
	if err := first.Accepted(t.Context(), f.Team.ID, 3); err != nil {
		t.Fatal(err)
	}
	first.Close(t.Context())
	var second *Forward
	for second == nil { // until the database has noticed
		second = got(f.Forward(t.Context(), "siem", nil))(t)
	}
	defer second.Close(context.Background())
	if b := f.behind(second); b.Position != 3 || b.End < 5 {
		t.Errorf("the next goes on from %+v", b)
	}
	got(f.pool.Exec(t.Context(), `select pg_terminate_backend($1)`, second.conn.PgConn().PID()))(t)
	if err := second.Accepted(t.Context(), f.Team.ID, 5); err == nil {
		t.Error("who lost the place still moves it")
	}
	f.another("beside").acts(1)
	only := got(f.Forward(t.Context(), "one", []string{"beside"}))(t)
	defer only.Close(context.Background())
	if behind := got(only.Behind(t.Context()))(t); len(behind) != 1 || behind[0].Team != "beside" {
		t.Errorf("of one team it gets %+v", behind)
	}
}

// TestForwardRefused: what a receiver refused is passed over and in the chain, or neither, by who has
// the receiver's place.
func TestForwardRefused(t *testing.T) {
	f := newFixture(t)
	f.acts(3)
	r := got(f.Forward(t.Context(), "siem", nil))(t)
	defer r.Close(context.Background())
	before := f.behind(r)
	if err := r.Refused(t.Context(), f.Team.ID, 2, "event 2"); err != nil {
		t.Fatal(err)
	}
	after := f.behind(r)
	events := got(r.Events(t.Context(), after, 100))(t)
	last := events[len(events)-1]
	if after.Position != 2 || after.End != before.End+1 || last.Kind != Refused || last.Detail != "event 2" || last.Actor != "system" {
		t.Errorf("then there is %+v, %+v", after, last)
	}
	got(f.pool.Exec(t.Context(), `select pg_terminate_backend($1)`, r.conn.PgConn().PID()))(t)
	if err := r.Refused(t.Context(), f.Team.ID, 3, "event 3"); err == nil {
		t.Error("who lost the place still moves it")
	}
	if events, _, _ := f.Events(t.Context(), f.Team.ID, Page{}); events[0].ID != after.End {
		t.Errorf("it has recorded %+v", events[0])
	}
}

// TestRetentionSaysWhatWasNotForwarded removes a month of which a receiver has had a part.
func TestRetentionSaysWhatWasNotForwarded(t *testing.T) {
	f := newFixture(t)
	var log bytes.Buffer
	f.log = slog.New(slog.NewTextHandler(&log, nil))
	f.acts(6)
	r := got(f.Forward(t.Context(), "siem", nil))(t)
	defer r.Close(context.Background())
	old := f.behind(r)
	if err := r.Accepted(t.Context(), f.Team.ID, 2); err != nil {
		t.Fatal(err)
	}
	f.endMonth()
	f.acts(1)
	got(f.Retain(t.Context(), 0, "siem", "another"))(t)
	if !strings.Contains(log.String(), "not forwarded") || !strings.Contains(log.String(), "receiver=siem") || !strings.Contains(log.String(), "team=default events=") {
		t.Errorf("the log says %s", &log)
	}
	events := got(r.Events(t.Context(), f.behind(r), 10))(t)
	if len(events) == 0 || events[0].ID != old.End+1 {
		t.Errorf("then it goes on with %+v, after %d", events, old.End)
	}
}
