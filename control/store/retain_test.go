package store

import (
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/control"
)

// endMonth has the month that goes on end now, as far as the table knows.
func (f *fixture) endMonth() {
	f.t.Helper()
	for _, sql := range []string{
		`alter table audit_events detach partition audit_events_first`,
		`do $$ begin
			execute format('alter table audit_events attach partition audit_events_first for values from (minvalue) to (%L)', clock_timestamp());
			execute format('create table audit_events_rest partition of audit_events for values from (%L) to (%L)', clock_timestamp(),
				(date_trunc('month', now() at time zone 'UTC') + interval '1 month') at time zone 'UTC');
		end $$`,
		`alter table audit_events_rest add primary key (team_id, position)`,
	} {
		got(f.pool.Exec(f.t.Context(), sql))(f.t)
	}
	time.Sleep(10 * time.Millisecond) // beyond the time that was put down
}

func (f *fixture) acts(n int) {
	f.t.Helper()
	for range n {
		if err := f.AppendAct(f.t.Context(), f.Team.ID, control.Event{Kind: "act"}); err != nil {
			f.t.Fatal(err)
		}
	}
}

func (f *fixture) verify(after string, kept []byte) Verification {
	f.t.Helper()
	return got(f.Verify(f.t.Context(), f.Team.ID, after, kept))(f.t)
}

func hashOf(t *testing.T, place string) []byte {
	t.Helper()
	_, hash, _ := strings.Cut(place, ":")
	return got(hex.DecodeString(hash))(t)
}

// A month that is old goes as a whole; the chain goes on from where it ended, and
// says so itself. Nothing younger goes.
func TestRetention(t *testing.T) {
	f := newFixture(t)
	f.acts(3)
	old := f.verify("", nil)
	f.endMonth()
	f.acts(2)
	if dropped := got(f.Retain(t.Context(), time.Hour))(t); len(dropped) > 0 {
		t.Fatalf("dropped %v, which ended a moment ago", dropped)
	}
	young := f.verify("", nil)
	if dropped := got(f.Retain(t.Context(), 0))(t); !slices.Equal(dropped, []string{"audit_events_first"}) {
		t.Fatalf("dropped %v, want the first and nothing that goes on", dropped)
	}
	v := f.verify("", hashOf(t, young.Head))
	if v.Broken != "" || v.Start != old.Head || !v.Kept || v.Events != 3 {
		t.Errorf("then it is %+v, after %+v and %+v", v, old, young)
	}
	if v := f.verify("", hashOf(t, old.Head)); !v.Kept {
		t.Error("the last event that was removed is not known any more")
	}
	f.acts(1)
	events, _, err := f.Events(t.Context(), f.Team.ID, Page{})
	if err != nil || len(events) != 4 || events[1].Kind != retained || events[0].ID != events[1].ID+1 {
		t.Errorf("%v, events are %+v", err, events)
	}
	if v := got(f.Verify(t.Context(), "", "", nil))(t); v.Broken != "" {
		t.Errorf("the installation's: %s", v.Broken)
	}
}

// Whoever owns the database can't pass off what he removed as having been old.
func TestForgedCheckpoint(t *testing.T) {
	f := newFixture(t)
	f.acts(5)
	for _, sql := range []string{
		`alter table audit_events disable trigger all`,
		`insert into audit_checkpoints (team_id, position, hash) select team_id, position, hash from audit_events where team_id = '` + f.Team.ID + `' and position = 3`,
		`delete from audit_events where team_id = '` + f.Team.ID + `' and position <= 3`,
	} {
		got(f.pool.Exec(t.Context(), sql))(t)
	}
	if v := f.verify("", nil); !strings.Contains(v.Broken, "broken at its start") {
		t.Errorf("it is %+v", v)
	}
}

// A tail that was cut off and a head that was put back make a chain that is whole;
// who kept a head sees it.
func TestKeptHead(t *testing.T) {
	f := newFixture(t)
	f.acts(4)
	kept := f.verify("", nil)
	f.acts(2)
	if v := f.verify("", hashOf(t, kept.Head)); !v.Kept || v.Broken != "" {
		t.Errorf("as it was: %+v", v)
	}
	for _, sql := range []string{
		`alter table audit_events disable trigger all`,
		`delete from audit_events where position > 2 and team_id = '` + f.Team.ID + `'`,
		`update audit_heads h set position = 2, hash = e.hash from audit_events e where e.team_id = h.team_id and e.position = 2 and h.team_id = '` + f.Team.ID + `'`,
	} {
		got(f.pool.Exec(t.Context(), sql))(t)
	}
	if v := f.verify("", hashOf(t, kept.Head)); v.Kept || v.Broken != "" {
		t.Errorf("cut off: %+v", v)
	}
	_, err := f.Verify(t.Context(), f.Team.ID, "5:zz", nil)
	wantCode(t, err, control.CodeInvalid, "place")
}

// A report that is sent again in the next month is stored once.
func TestReportedAgainNextMonth(t *testing.T) {
	f := newFixture(t)
	f.agent("billing")
	b := f.sandbox("billing")
	got(f.AppendEvents(t.Context(), f.Team.ID, b.ID, []Report{report(1, "r1"), report(2, "r2")}))(t)
	f.endMonth()
	got(f.AppendEvents(t.Context(), f.Team.ID, b.ID, []Report{report(1, "r1"), report(2, "r2"), report(3, "r3")}))(t)
	events, _, err := f.Events(t.Context(), f.Team.ID, Page{})
	n := 0
	for _, e := range events {
		if e.Kind == "request" {
			n++
		}
	}
	if err != nil || n != 3 {
		t.Errorf("%d events are stored, %v", n, err)
	}
}

// Follow gives every event once, in order, however it is cut.
func TestFollow(t *testing.T) {
	f := newFixture(t)
	f.acts(5)
	var after int64
	var seen []int64
	for range 4 {
		events, next, err := f.Follow(t.Context(), f.Team.ID, EventFilter{After: after, Limit: 2})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			seen = append(seen, e.ID)
		}
		after = next
	}
	if !slices.Equal(seen, []int64{1, 2, 3, 4, 5, 6}) {
		t.Errorf("it gave %v", seen)
	}
	if events, next, err := f.Follow(t.Context(), f.Team.ID, EventFilter{After: -1}); err != nil || len(events) > 0 || next != 6 {
		t.Errorf("those to come are %v after %d, %v", events, next, err)
	}
	if events, next, err := f.Follow(t.Context(), f.Team.ID, EventFilter{Host: "none"}); err != nil || len(events) > 0 || next != 6 {
		t.Errorf("of no host are %v, next %d, %v", events, next, err)
	}
}
