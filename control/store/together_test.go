package store

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
	"sallyport/control/api"
)

// together is what sandboxes of a team might ask for at once: each with what is said
// to it when it asks alone.
func together(t *testing.T, f *fixture) []Use {
	t.Helper()
	v := f.vault("prod")
	c, other := f.credential(v, "stripe", "api.stripe.com"), f.credential(v, "notion", "api.notion.com")
	hidden := f.credential(f.vault("unpinned"), "hidden", "api.hidden.com")
	approved := f.credential(v, "approved", "api.approved.com")
	overlapping, rotated, ended := f.credential(v, "overlapping", "a.com"), f.credential(v, "rotated", "b.com"), f.credential(v, "ended", "c.com")
	for credential, overlap := range map[string]time.Duration{approved.ID: time.Minute, overlapping.ID: time.Minute, rotated.ID: 0} {
		if _, _, err := f.RotateOverlapping(t.Context(), f.Team.ID, credential, 1, secret(), overlap, testAct()); err != nil {
			t.Fatal(err)
		}
	}
	f.limit("approved", control.Limits{Approve: control.ApproveFirst, ApproveTimeout: control.Seconds(time.Minute)})
	past := time.Now().Add(-time.Minute)
	f.limit("ended", control.Limits{ExpiresAt: &past})
	got(f.CreateSource(t.Context(), f.Team.ID, v.ID, control.Source{ID: NewID(), Name: "kept", Kind: "vault"}, secret(), testAct()))(t)
	external := credential("external", "d.com")
	external.From, external.FromVersion = &control.Place{Source: "kept", Path: "kv/stripe"}, "7"
	if _, _, err := f.CreateCredential(t.Context(), f.Team.ID, v.ID, external, secret(), testAct()); err != nil {
		t.Fatal(err)
	}
	thief := f.another("thief")
	foreign := thief.credential(thief.vault("prod"), "stripe", "api.stripe.com")
	thief.agent("billing", "prod")
	f.agent("billing", "prod")
	f.agent("idle")
	one, two, idle, revoked, pending := f.sandbox("billing"), f.sandbox("billing"), f.sandbox("idle"), f.sandbox("billing"), f.pending("billing", "token")
	got(f.RevokeSandbox(t.Context(), f.Team.ID, revoked.ID, testAct()))(t)
	f.approve(two.ID, approved.ID, 2)
	return []Use{
		{one.ID, c.ID, 1}, {two.ID, c.ID, 1}, {one.ID, other.ID, 1}, {one.ID, c.ID, 1},
		{one.ID, c.ID, 2}, {one.ID, c.ID, -1}, {one.ID, hidden.ID, 1}, {one.ID, foreign.ID, 1}, {one.ID, approved.ID, 2}, {one.ID, approved.ID, 1},
		{one.ID, "'; drop table leases; --", 1}, {"'; drop table leases; --", c.ID, 1}, {"", "", 0}, {NewID(), c.ID, 1}, {one.ID, NewID(), 1},
		{thief.sandbox("billing").ID, c.ID, 1}, {idle.ID, c.ID, 1}, {revoked.ID, c.ID, 1}, {pending.ID, c.ID, 1},
		{strings.ToUpper(two.ID), strings.ToUpper(c.ID), 1},
		{two.ID, approved.ID, 2}, {two.ID, approved.ID, 1}, {one.ID, overlapping.ID, 1}, {two.ID, overlapping.ID, 2}, {one.ID, overlapping.ID, 3},
		{one.ID, rotated.ID, 1}, {one.ID, rotated.ID, 2}, {one.ID, ended.ID, 1}, {one.ID, external.ID, 1}, {two.ID, external.ID, 1}, {one.ID, external.ID, 2},
	}
}

// approve has a person approve that a sandbox uses a credential.
func (f *fixture) approve(sandboxID, credentialID string, version int64) {
	f.t.Helper()
	got(f.AskApproval(f.t.Context(), Question{TeamID: f.Team.ID, SandboxID: sandboxID, CredentialID: credentialID, Version: version, Host: "h", Port: 443, Method: "GET", Path: "/", Request: "r"}))(f.t)
	asked, _, err := f.Approvals(f.t.Context(), f.Team.ID, true, Page{})
	if err != nil || len(asked) != 1 {
		f.t.Fatalf("%d questions, %v", len(asked), err)
	}
	got(f.DecideApproval(f.t.Context(), f.Team.ID, asked[0].ID, asked[0].Tag(), true, "a person", testAct()))(f.t)
}

// What is said to many at once is what is said to each.
func TestStandings(t *testing.T) {
	f := newFixture(t)
	uses := together(t, f)
	for i, s := range got(f.Standings(t.Context(), f.Team.ID, uses))(t) {
		identity, err := f.Identity(t.Context(), f.Team.ID, uses[i].SandboxID)
		if s.Known != (err == nil) || !reflect.DeepEqual(s.Identity, identity) {
			t.Errorf("of %v: known %v as %+v, and alone %+v", uses[i], s.Known, s.Identity, identity)
		}
		bound, err := f.Bound(t.Context(), f.Team.ID, uses[i].SandboxID, uses[i].CredentialID, uses[i].Version)
		if control.CodeOf(s.Err) != control.CodeOf(err) {
			t.Errorf("of %v: %v, and alone %v", uses[i], s.Err, err)
		}
		if err == nil && !reflect.DeepEqual(s.Bound, bound) {
			t.Errorf("of %v: %+v, and alone %+v", uses[i], s.Bound, bound)
		}
	}
}

// Whoever may not have something keeps nobody else from it, and each that is granted
// has its event.
func TestGrantsTogether(t *testing.T) {
	f := newFixture(t)
	uses := together(t, f)
	before := strings.Count(f.kinds(), "grant")
	grants, want := make([]Grant, len(uses)), make([]control.Code, len(uses))
	for i, u := range uses {
		grants[i] = Grant{f.Team.ID, u.SandboxID, u.CredentialID, u.Version, "host\x00\xff", time.Second, time.Hour, 0, fmt.Sprint("of ", i)}
		_, err := f.Bound(t.Context(), f.Team.ID, u.SandboxID, u.CredentialID, u.Version)
		want[i] = control.CodeOf(err)
	}
	want[8], want[9] = control.CodeConflict, control.CodeConflict // not approved
	const end = 10 * time.Second
	grants[0].Lasts = end
	granted := got(f.Grants(t.Context(), f.Team.ID, grants))(t)
	leases := make(map[string]int)
	for i, g := range granted {
		if code := control.CodeOf(g.Err); code != want[i] {
			t.Errorf("of %v: %v, want %q", uses[i], g.Err, want[i])
		}
		if (g.Err == nil) != (g.ID != "") {
			t.Errorf("of %v: lease %q, %v", uses[i], g.ID, g.Err)
		}
		if g.Err == nil {
			leases[g.ID] = i
		}
	}
	// Each lease has its own end: its material's, that of the overlap, or the usual one.
	for _, i := range []int{0, 1, 20, 21, 22, 23} {
		most := map[int]time.Duration{0: end, 21: time.Minute, 22: time.Minute}[i]
		if d := granted[i].HardExpiry.Sub(granted[i].FreshUntil) + time.Second; most == 0 && d != time.Hour || most != 0 && (d > most || d < most/2) {
			t.Errorf("the lease of %v lasts %v", uses[i], d)
		}
	}
	stored := got(all(t.Context(), f.pool, "leases", pgx.RowTo[string], `select id::text from leases`))(t)
	events, _, err := f.Events(t.Context(), f.Team.ID, Page{})
	if err != nil || len(leases) != 12 || len(stored) != 12 || strings.Count(f.kinds(), "grant")-before != 12 || f.halves() != 0 {
		t.Fatalf("%d granted, %d stored, the events %s, %v", len(leases), len(stored), f.kinds(), err)
	}
	for _, e := range events {
		if e.Kind != "grant" {
			continue
		}
		i, found := leases[e.Lease]
		if !found || e.Agent != "billing" || e.Actor != "sandbox:"+e.Sandbox || e.Version != uses[i].Version || e.Detail != grants[i].Detail {
			t.Errorf("the event %+v is of none of %v", e, leases)
		}
	}
	if err := f.VerifyChain(t.Context(), f.Team.ID); err != nil {
		t.Error(err)
	}
}

// Streams that are opened at once are opened as one after another would be.
func TestOpeningsTogether(t *testing.T) {
	f := newFixture(t)
	f.agent("billing")
	good, copied, revoked := f.sandbox("billing"), f.sandbox("billing"), f.sandbox("billing")
	got(f.RevokeSandbox(t.Context(), f.Team.ID, revoked.ID, testAct()))(t)
	thief := f.another("thief")
	thief.agent("billing")
	foreign := thief.sandbox("billing")
	at := func(b control.Sandbox, worker, stream uint64) Opening {
		return Opening{b.ID, hash("key"), api.Opening{Worker: worker, Stream: stream}}
	}
	opened := got(f.OpenStreams(t.Context(), f.Team.ID, []Opening{
		at(good, 1, 1), at(copied, 1, 1), at(good, 1, 3), at(good, 1, 2), at(copied, 1, 1), at(revoked, 1, 1), at(foreign, 1, 1), at(good, 2, 1),
	}, "replica"))(t)
	want := []control.Code{"", "", "", control.CodeUnavailable, control.CodeForbidden, control.CodeForbidden, control.CodeNotFound, ""}
	for i, o := range opened {
		if control.CodeOf(o.Err) != want[i] || (o.Session == nil) != (o.Err != nil) {
			t.Errorf("opening %d: %v, want %q", i, o.Err, want[i])
		}
	}
	sessions := got(f.Identity(t.Context(), f.Team.ID, good.ID))(t).Sessions
	if !reflect.DeepEqual(sessions, Sessions{opened[7].Session, opened[2].Session}) {
		t.Error("the sandbox has other sessions than its last two")
	}
	if b := got(f.Sandbox(t.Context(), f.Team.ID, copied.ID))(t); b.State != control.SandboxLocked {
		t.Errorf("the sandbox whose identity was copied is %s", b.State)
	}
	if b := got(f.Sandbox(t.Context(), f.Team.ID, good.ID))(t); b.State != control.SandboxEnrolled || !b.Connected {
		t.Errorf("the good one is %s, connected %v", b.State, b.Connected)
	}
}
