package store

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/control"
)

// turn does what the clock would: the day, or the minute, of what was used is over.
func (f *fixture) turn(column, interval string) {
	f.t.Helper()
	tag, err := f.pool.Exec(f.t.Context(), `update audit_heads set `+column+` = `+column+` - interval '`+interval+`' where team_id = $1`, f.Team.ID)
	if err != nil || tag.RowsAffected() != 1 {
		f.t.Fatalf("%v, %v", tag, err)
	}
}

// TestEventQuota: sandboxes that race write exactly as many events as the team may have.
// What they could not write is not lost, and is written the next day; what people do, and
// what a sandbox that was cut off tells yet, is written anyway.
func TestEventQuota(t *testing.T) {
	f := newFixture(t)
	ctx, id := t.Context(), f.Team.ID
	c := f.credential(f.vault("prod"), "stripe", "api.stripe.com")
	f.agent("billing", "prod")
	boxes := make([]control.Sandbox, 12)
	for i := range boxes {
		boxes[i] = f.sandbox("billing")
		got(f.AppendEvents(ctx, id, boxes[i].ID, nil))(t) // opens its stream
	}
	const room = 35
	may := got(f.Quota(ctx, id))(t).Used.Events + 1 + room // and that of the change
	got(f.SetQuota(ctx, id, control.QuotaChange{Events: &may}, nil, testAct()))(t)
	errs := make([]error, len(boxes))
	var wg sync.WaitGroup
	for i := range boxes {
		wg.Go(func() { _, errs[i] = f.AppendEvents(ctx, id, boxes[i].ID, reports(1, 5)) })
	}
	wg.Wait()
	var full *control.Sandbox
	stored := 0
	for i, err := range errs {
		if err == nil {
			stored++
			continue
		}
		wantCode(t, err, control.CodeQuota, "there is room again at")
		full = &boxes[i]
	}
	if q := got(f.Quota(ctx, id))(t); stored != room/5 || full == nil || q.Used.Events != may || q.Limits.Events != may {
		t.Fatalf("%d batches of 5 were stored in the room for %d: %+v", stored, room, q)
	}
	_, err := f.grant(full.ID, c.ID, 1)
	wantCode(t, err, control.CodeQuota)
	for i, err := range errs {
		if err == nil { // an answer that was lost
			got(f.AppendEvents(ctx, id, boxes[i].ID, reports(1, 5)))(t)
			break
		}
	}
	f.vault("of-people")
	got(f.RevokeSandbox(ctx, id, boxes[0].ID, testAct()))(t)
	got(f.AppendEvents(ctx, id, boxes[0].ID, reports(1, 9)))(t)

	f.turn("day", "1 day")
	if q := got(f.Quota(ctx, id))(t); q.Used.Events != 0 {
		t.Errorf("of a new day %d are used", q.Used.Events)
	}
	if full.ID != boxes[0].ID {
		got(f.AppendEvents(ctx, id, full.ID, reports(1, 5)))(t)
		if q := got(f.Quota(ctx, id))(t); q.Used.Events != 5 {
			t.Errorf("of a new day %d are used", q.Used.Events)
		}
	}
	if err := f.VerifyChain(ctx, id); err != nil {
		t.Error(err)
	}
}

// TestFetchQuota: of many fetches at once exactly as many succeed as the team may have in
// a minute; another team's are its own.
func TestFetchQuota(t *testing.T) {
	f := newFixture(t)
	ctx, id := t.Context(), f.Team.ID
	c := f.credential(f.vault("prod"), "stripe", "api.stripe.com")
	f.agent("billing", "prod")
	b := f.sandbox("billing")
	const most = 7
	may := int64(most)
	got(f.SetQuota(ctx, id, control.QuotaChange{Fetches: &may}, nil, testAct()))(t)
	fetch := func() (done int) {
		errs := make([]error, 3*most)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() { _, errs[i] = f.grant(b.ID, c.ID, 1) })
		}
		wg.Wait()
		for _, err := range errs {
			if err == nil {
				done++
				continue
			}
			wantCode(t, err, control.CodeQuota, "try again in the next")
		}
		return done
	}
	first, used := fetch(), got(f.Quota(ctx, id))(t).Used.Fetches
	if first < most || first > 2*most || used > most { // a minute may end meanwhile
		t.Errorf("%d fetches succeeded, %d are used", first, used)
	}
	f.turn("minute", "1 minute")
	if again := fetch(); again < most || again > 2*most {
		t.Errorf("%d fetches succeeded in the next minute", again)
	}
	other := f.another("other")
	o := other.credential(other.vault("prod"), "stripe", "api.stripe.com")
	other.agent("billing", "prod")
	got(other.grant(other.sandbox("billing").ID, o.ID, 1))(t)
}

// TestFetchQuotaTogether: of fetches that are asked for at once those succeed that there
// is room for, the first first; whoever may not fetch takes none of it.
func TestFetchQuotaTogether(t *testing.T) {
	f := newFixture(t)
	ctx, id := t.Context(), f.Team.ID
	c := f.credential(f.vault("prod"), "stripe", "api.stripe.com")
	f.agent("billing", "prod")
	b, revoked := f.sandbox("billing"), f.sandbox("billing")
	got(f.RevokeSandbox(ctx, id, revoked.ID, testAct()))(t)
	together := func(n int) (done int, refused error) {
		grants := make([]Grant, 2*n) // each good one behind a bad one
		for i := range grants {
			grants[i] = Grant{TeamID: id, SandboxID: b.ID, CredentialID: c.ID, Version: 1, Host: "api.stripe.com", FreshFor: time.Minute, HardFor: time.Hour}
			if i%2 == 0 {
				grants[i].SandboxID = revoked.ID
			}
		}
		before := f.leases()
		for i, g := range got(f.Grants(ctx, id, grants))(t) {
			switch {
			case i%2 == 0:
				wantCode(t, g.Err, control.CodeForbidden)
			case g.Err == nil && refused == nil:
				done++
			case g.Err == nil || g.ID != "":
				t.Errorf("lease %q, %v behind one that was refused", g.ID, g.Err)
			default:
				refused = g.Err
				wantCode(t, g.Err, control.CodeQuota)
			}
		}
		if made := f.leases() - before; made != done || f.halves() != 0 {
			t.Errorf("%d succeeded, %d leases are there, %d halves", done, made, f.halves())
		}
		return done, refused
	}
	may := int64(7)
	got(f.SetQuota(ctx, id, control.QuotaChange{Fetches: &may}, nil, testAct()))(t)
	done, err := together(10)
	if wantCode(t, err, control.CodeQuota, "has fetched 7 secrets", "may fetch 7"); done != 7 {
		t.Errorf("%d fetches succeeded of the 7 that there is room for", done)
	}
	if done, _ := together(10); done != 0 && done != 7 { // a minute may have ended
		t.Errorf("%d fetches succeeded past the quota", done)
	}
	f.turn("minute", "1 minute")
	var total atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			grants := slices.Repeat([]Grant{{TeamID: id, SandboxID: b.ID, CredentialID: c.ID, Version: 1, FreshFor: time.Minute, HardFor: time.Hour}}, 5)
			granted, err := f.Grants(ctx, id, grants)
			if err != nil {
				t.Error(err)
			}
			for _, g := range granted {
				if g.Err == nil {
					total.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := total.Load(); n < 7 || n > 14 {
		t.Errorf("%d fetches of groups that race succeeded", n)
	}

	many, events := int64(1000), got(f.Quota(ctx, id))(t).Used.Events+1+4 // and that of the change
	got(f.SetQuota(ctx, id, control.QuotaChange{Fetches: &many, Events: &events}, nil, testAct()))(t)
	done, err = together(6)
	if wantCode(t, err, control.CodeQuota, "there is room again at"); done != 4 {
		t.Errorf("%d fetches succeeded with room for 4 events", done)
	}
	if err := f.VerifyChain(ctx, id); err != nil {
		t.Error(err)
	}
}
