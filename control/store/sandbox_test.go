package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
	"sallyport/control/api"
)

func (f *fixture) pending(agent, token string) control.Sandbox {
	f.t.Helper()
	return got(f.CreateSandbox(f.t.Context(), f.Team.ID, agent, hash(token), time.Now().Add(time.Hour), testAct()))(f.t)
}

func (f *fixture) wantState(id string, want control.SandboxState) {
	f.t.Helper()
	if b := got(f.Sandbox(f.t.Context(), f.Team.ID, id))(f.t); b.State != want {
		f.t.Errorf("the sandbox is %s, want %s", b.State, want)
	}
}

// kinds gives the kinds of the team's events, oldest first.
func (f *fixture) kinds() string {
	f.t.Helper()
	events, _, err := f.Events(f.t.Context(), f.Team.ID, Page{})
	if err != nil {
		f.t.Fatal(err)
	}
	var kinds []string
	for _, e := range events {
		kinds = append([]string{e.Kind}, kinds...)
	}
	return strings.Join(kinds, " ")
}

func TestEnrol(t *testing.T) {
	f := newFixture(t)
	f.agent("billing")
	b := f.pending("billing", "token")
	if b.State != control.SandboxPending || b.Agent != "billing" || b.Connected {
		t.Errorf("created %+v", b)
	}
	if err := f.SetIdentity(t.Context(), f.Team.ID, b.ID, hash("key"), []byte("seal"), "v1"); control.CodeOf(err) != control.CodeForbidden {
		t.Errorf("enrolled before its token was used: %v", err)
	}
	id := got(f.ConsumeJoinToken(t.Context(), hash("token")))(t)
	if want := (SandboxIdentity{f.Team.ID, "default", "billing", b.ID}); id != want {
		t.Errorf("the token is of %+v, want %+v", id, want)
	}
	if err := f.SetIdentity(t.Context(), f.Team.ID, b.ID, hash("key"), []byte("seal"), "v1"); err != nil {
		t.Fatal(err)
	}
	if err := f.SetIdentity(t.Context(), f.Team.ID, b.ID, hash("thief"), []byte("seal"), "v1"); control.CodeOf(err) != control.CodeForbidden {
		t.Errorf("enrolled twice: %v", err)
	}
	full := got(f.Identity(t.Context(), f.Team.ID, b.ID))(t)
	if full.SandboxIdentity != id || full.State != control.SandboxEnrolled || full.Generation != 1 || string(full.PublicKeyHash) != string(hash("key")) || string(full.SealKey) != "seal" {
		t.Errorf("the identity is %+v", full)
	}
	f.wantState(b.ID, control.SandboxEnrolled)
}

func TestJoinTokenRefusals(t *testing.T) {
	f := newFixture(t)
	f.agent("billing")
	_, err := f.ConsumeJoinToken(t.Context(), hash("unknown"))
	wantCode(t, err, control.CodeUnauthorized)

	expired := got(f.CreateSandbox(t.Context(), f.Team.ID, "billing", hash("expired"), time.Now().Add(-time.Second), testAct()))(t)
	_, err = f.ConsumeJoinToken(t.Context(), hash("expired"))
	wantCode(t, err, control.CodeUnauthorized, "expired")
	f.wantState(expired.ID, control.SandboxPending)

	revoked := f.pending("billing", "revoked")
	got(f.RevokeSandbox(t.Context(), f.Team.ID, revoked.ID, testAct()))(t)
	_, err = f.ConsumeJoinToken(t.Context(), hash("revoked"))
	wantCode(t, err, control.CodeUnauthorized)
	if kinds := f.kinds(); kinds != "" {
		t.Errorf("events: %s", kinds)
	}
}

func TestSecondUseOfJoinTokenLocks(t *testing.T) {
	f := newFixture(t)
	f.agent("billing")
	b := f.pending("billing", "token")
	got(f.ConsumeJoinToken(t.Context(), hash("token")))(t)
	if err := f.SetIdentity(t.Context(), f.Team.ID, b.ID, hash("key"), []byte("seal"), "v1"); err != nil {
		t.Fatal(err)
	}
	before := f.revision()
	for range 3 {
		_, err := f.ConsumeJoinToken(t.Context(), hash("token"))
		wantCode(t, err, control.CodeUnauthorized, "locked")
	}
	f.wantState(b.ID, control.SandboxLocked)
	if f.revision() != before+1 || f.kinds() != "sandbox.lock" {
		t.Errorf("revision %d after %d, events %q: want one step and one event, however often it is tried", f.revision(), before, f.kinds())
	}
	got(f.RevokeSandbox(t.Context(), f.Team.ID, b.ID, testAct()))(t)
	_, err := f.ConsumeJoinToken(t.Context(), hash("token"))
	wantCode(t, err, control.CodeUnauthorized)
	f.wantState(b.ID, control.SandboxRevoked)
}

func TestJoinTokenRace(t *testing.T) {
	f := newFixture(t)
	f.agent("billing")
	b := f.pending("billing", "token")
	servers := []*Store{f.Store, open(t, f.pool.Config().ConnString())}
	var won, lost atomic.Int64
	var group sync.WaitGroup
	for i := range 1000 {
		group.Go(func() {
			_, err := servers[i%2].ConsumeJoinToken(t.Context(), hash("token"))
			switch control.CodeOf(err) {
			case "":
				won.Add(1)
				if err != nil {
					t.Error(err)
				}
			case control.CodeUnauthorized:
				lost.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	group.Wait()
	if won.Load() != 1 || lost.Load() != 999 {
		t.Errorf("%d won, %d lost", won.Load(), lost.Load())
	}
	f.wantState(b.ID, control.SandboxLocked)
	if err := f.SetIdentity(t.Context(), f.Team.ID, b.ID, hash("key"), []byte("seal"), "v1"); control.CodeOf(err) != control.CodeForbidden {
		t.Errorf("a locked sandbox enrolled: %v", err)
	}
	if f.kinds() != "sandbox.lock" {
		t.Errorf("events: %s", f.kinds())
	}
}

func TestGenerations(t *testing.T) {
	f := newFixture(t)
	f.agent("billing")
	b := f.sandbox("billing")
	advance := func(from int64, request string) (int64, error) {
		return f.AdvanceGeneration(t.Context(), f.Team.ID, b.ID, from, hash(request))
	}
	for _, step := range []struct {
		from    int64
		request string
		to      int64
	}{{1, "first", 2}, {1, "first", 2}, {2, "second", 3}, {2, "second", 3}} { // an answer was lost
		if to, err := advance(step.from, step.request); err != nil || to != step.to {
			t.Fatalf("from %d by %s: %d, %v", step.from, step.request, to, err)
		}
	}
	_, err := advance(2, "a copy's")
	wantCode(t, err, control.CodeForbidden)
	f.wantState(b.ID, control.SandboxLocked)
	_, err = advance(3, "third")
	wantCode(t, err, control.CodeForbidden)
	if f.kinds() != "sandbox.lock" {
		t.Errorf("events: %s", f.kinds())
	}
	_, err = f.AdvanceGeneration(t.Context(), f.Team.ID, NewID(), 1, hash("x"))
	wantCode(t, err, control.CodeNotFound)
}

func TestGenerationAheadLocks(t *testing.T) {
	f := newFixture(t)
	f.agent("billing")
	b := f.sandbox("billing")
	_, err := f.AdvanceGeneration(t.Context(), f.Team.ID, b.ID, 2, hash("forged"))
	wantCode(t, err, control.CodeForbidden)
	f.wantState(b.ID, control.SandboxLocked)
}

func TestConnectedAndAcknowledged(t *testing.T) {
	f := newFixture(t)
	c := f.credential(f.vault("prod"), "stripe", "api.stripe.com")
	f.agent("billing", "prod")
	f.agent("other")
	mine, second, other := f.sandbox("billing"), f.sandbox("billing"), f.sandbox("other")
	ctx := t.Context()
	counts := func(want string) {
		t.Helper()
		connected, acknowledged, err := f.Acknowledged(ctx, f.Team.ID, c.ID, f.revision())
		if got := fmt.Sprint(connected, acknowledged); err != nil || got != want {
			t.Errorf("connected and acknowledged: %s, %v; want %s", got, err, want)
		}
	}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	acknowledge := func(sandboxID string, revision int64) {
		t.Helper()
		known := got(f.Acknowledge(ctx, f.Team.ID, []Applied{{NewID(), 1}, {sandboxID, 1}, {sandboxID, revision}}))(t)
		if want := []bool{false, true, true}; !slices.Equal(known, want) {
			t.Errorf("known: %v, want %v", known, want)
		}
	}
	keeps := func(session Session, want bool) {
		t.Helper()
		if kept := got(f.KeepStreams(ctx, f.Team.ID, []Held{{NewID(), session}, {mine.ID, session}}))(t); kept[0] || kept[1] != want {
			t.Errorf("kept: %v, want false and %v", kept, want)
		}
	}
	counts("0 0")
	var first Session
	for _, b := range []control.Sandbox{other, second, mine} {
		first = got(f.OpenStream(ctx, f.Team.ID, Opening{b.ID, hash("key"), api.Opening{Worker: 1, Stream: 1}}, "one"))(t)
	}
	counts("2 0")
	acknowledge(mine.ID, f.revision())
	counts("2 1")
	acknowledge(second.ID, 1<<40) // it can't run ahead of the team
	counts("2 2")
	if _, _, err := f.RotateCredential(ctx, f.Team.ID, c.ID, 1, secret(), testAct()); err != nil {
		t.Fatal(err)
	}
	counts("2 0")
	again := got(f.OpenStream(ctx, f.Team.ID, Opening{mine.ID, hash("key"), api.Opening{Worker: 1, Stream: 2}}, "two"))(t)
	check(f.CloseStreams(ctx, f.Team.ID, []Held{{mine.ID, first}})) // the old replica notices late
	keeps(first, false)
	keeps(again, true)
	counts("2 0")
	check(f.CloseStreams(ctx, f.Team.ID, []Held{{mine.ID, again}}))
	counts("1 0")
	if _, err := f.pool.Exec(ctx, `update sandboxes set last_seen_at = now() - $2::interval where id = $1`, second.ID, ConnectedFor); err != nil {
		t.Fatal(err)
	}
	counts("0 0") // its replica died
	if b := got(f.Sandbox(ctx, f.Team.ID, second.ID))(t); b.Connected {
		t.Error("it is shown as connected")
	}
}

func TestSnapshot(t *testing.T) {
	f := newFixture(t)
	f.credential(f.vault("prod"), "stripe", "api.stripe.com")
	f.credential(f.vault("unpinned"), "hidden", "api.hidden.com")
	f.agent("billing", "prod")
	pending, b := f.pending("billing", "token"), f.sandbox("billing")
	names := func(id string) string {
		t.Helper()
		snap := got(f.Snapshot(t.Context(), f.Team.ID, id))(t)
		if snap.Revision != f.revision() {
			t.Errorf("revision %d, want %d", snap.Revision, f.revision())
		}
		text := string(snap.State)
		for _, c := range snap.Credentials {
			text += fmt.Sprintf(" %s/%s@%d", c.Vault, c.Name, c.Version)
		}
		return text
	}
	want := func(id, want string) {
		t.Helper()
		if got := names(id); got != want {
			t.Errorf("the snapshot is %q, want %q", got, want)
		}
	}
	want(pending.ID, "pending")
	want(b.ID, "enrolled prod/stripe@1")
	got(f.Unpin(t.Context(), f.Team.ID, "billing", "prod", testAct()))(t)
	want(b.ID, "enrolled")
	got(f.Pin(t.Context(), f.Team.ID, "billing", "unpinned", testAct()))(t)
	want(b.ID, "enrolled unpinned/hidden@1")
	got(f.RevokeSandbox(t.Context(), f.Team.ID, b.ID, testAct()))(t)
	want(b.ID, "revoked")
	got(f.DeleteAgent(t.Context(), f.Team.ID, "billing", testAct()))(t)
	_, err := f.Snapshot(t.Context(), f.Team.ID, b.ID)
	wantCode(t, err, control.CodeNotFound)
}

// TestSnapshotHasItsRevision reads while a credential is rotated: its version
// counts the revisions, so each snapshot can be checked by itself.
func TestSnapshotHasItsRevision(t *testing.T) {
	f := newFixture(t)
	c := f.credential(f.vault("prod"), "stripe", "api.stripe.com")
	f.agent("billing", "prod")
	b := f.sandbox("billing")
	offset := f.revision() - 1
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			last := int64(0)
			for ctx.Err() == nil {
				snap, err := f.Snapshot(t.Context(), f.Team.ID, b.ID)
				if err != nil {
					t.Error(err)
					return
				}
				if version := snap.Credentials[0].Version; snap.Revision != version+offset || snap.Revision < last {
					t.Errorf("revision %d after %d has version %d", snap.Revision, last, version)
					return
				}
				last = snap.Revision
			}
		})
	}
	for version := int64(1); version < 100; version++ {
		if _, _, err := f.RotateCredential(t.Context(), f.Team.ID, c.ID, version, secret(), testAct()); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	group.Wait()
}

// TestRevisions makes every change that sidecars must hear of.
func TestRevisions(t *testing.T) {
	f := newFixture(t)
	v := f.vault("prod")
	f.agent("billing")
	b := f.sandbox("billing")
	ctx, id := t.Context(), f.Team.ID
	want := f.revision()
	for name, change := range []func() (int64, error){
		func() (int64, error) {
			_, r, err := f.CreateCredential(ctx, id, v.ID, credential("a", "a.test.com"), secret(), testAct())
			return r, err
		},
		func() (int64, error) {
			c := got(f.Credential(ctx, id, "prod", "a"))(t)
			_, r, err := f.RotateCredential(ctx, id, c.ID, 1, secret(), testAct())
			return r, err
		},
		func() (int64, error) { return f.Pin(ctx, id, "billing", "prod", testAct()) },
		func() (int64, error) { return f.Unpin(ctx, id, "billing", "prod", testAct()) },
		func() (int64, error) { return f.DeleteCredential(ctx, id, "prod", "a", testAct()) },
		func() (int64, error) { return f.RevokeSandbox(ctx, id, b.ID, testAct()) },
		func() (int64, error) { return f.DeleteVault(ctx, id, "prod", testAct()) },
		func() (int64, error) { return f.DeleteAgent(ctx, id, "billing", testAct()) },
	} {
		want++
		if r := got(change())(t); r != want || f.revision() != want {
			t.Errorf("change %d gave revision %d, and the team has %d; want %d", name, r, f.revision(), want)
		}
	}
}

func TestListen(t *testing.T) {
	f := newFixture(t)
	f.vault("prod")
	f.agent("billing")
	ctx, cancel := context.WithCancel(t.Context())
	heard, done := make(chan string, 16), make(chan error, 1)
	go func() {
		done <- f.Listen(ctx, func(teamID, sandboxID string) { heard <- teamID + sandboxID }, func(string) {})
	}()
	expect := func(want string) {
		t.Helper()
		if got := <-heard; got != want {
			t.Fatalf("heard %q, want %q", got, want)
		}
	}
	expect("")
	got(f.Pin(ctx, f.Team.ID, "billing", "prod", testAct()))(t)
	expect(f.Team.ID)
	_, err := f.Pin(ctx, f.Team.ID, "billing", "none", testAct()) // rolled back, so not heard
	wantCode(t, err, control.CodeNotFound)
	got(f.Unpin(ctx, f.Team.ID, "billing", "prod", testAct()))(t)
	expect(f.Team.ID)

	killed := got(one(ctx, f.pool, "listener", pgx.RowTo[bool],
		`select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and query like 'listen `+channel+`;%'`))(t)
	if !killed {
		t.Fatal("the listener's connection was not killed")
	}
	expect("")
	got(f.Pin(ctx, f.Team.ID, "billing", "prod", testAct()))(t)
	expect(f.Team.ID)
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Listen gave %v", err)
	}
}
