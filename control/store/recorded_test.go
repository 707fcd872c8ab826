package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"sallyport/control"
	"sallyport/control/controltest/cutter"
)

// halves counts leases without their event and events without their lease.
func (f *fixture) halves() int {
	f.t.Helper()
	return got(one(f.t.Context(), f.pool, "leases", pgx.RowTo[int], `
		select count(*) from leases l full join (select lease from audit_events where kind = 'grant') e on e.lease = l.id::text
		where l.id is null or e.lease is null`))(f.t)
}

// TestFetchCutAtEveryStatement ends the connections at each statement of fetches that are
// made together, before and after it is done. All leases and events are there, or none.
func TestFetchCutAtEveryStatement(t *testing.T) {
	f := newFixture(t)
	c := f.credential(f.vault("prod"), "stripe", "api.stripe.com")
	f.agent("billing", "prod")
	uses := []Use{{f.sandbox("billing").ID, c.ID, 1}, {f.sandbox("billing").ID, c.ID, 2}, {f.sandbox("billing").ID, c.ID, 1}}
	grants := make([]Grant, len(uses))
	for i, u := range uses {
		grants[i] = Grant{TeamID: f.Team.ID, SandboxID: u.SandboxID, CredentialID: u.CredentialID, Version: u.Version, Host: "api.stripe.com", FreshFor: time.Minute, HardFor: time.Hour}
	}
	const good = 2 // the other's version there is not
	cutting := cutter.New(t, f.pool.Config().ConnString())
	through := open(t, cutting.URL)
	fetch := func() ([]Granted, error) {
		if _, err := through.Standings(t.Context(), f.Team.ID, uses); err != nil {
			return nil, err
		}
		return through.Grants(t.Context(), f.Team.ID, grants)
	}
	cuts, unheard := 0, 0
	for n := 1; ; n++ {
		broken := false
		for _, after := range []bool{false, true} {
			before := f.leases()
			cutting.Arm(n, after)
			granted, err := fetch()
			_, broken = cutting.Seen()
			cutting.Arm(0, false)
			if broken {
				cuts++
			}
			if broken && err == nil || !broken && err != nil {
				t.Fatalf("statement %d, cut %t: %v", n, broken, err)
			}
			if broken {
				wantCode(t, err, control.CodeUnavailable)
			}
			f.settled()
			if halves := f.halves(); halves != 0 {
				t.Fatalf("cut at statement %d, after it %t: %d leases without event, or events without lease", n, after, halves)
			}
			switch made := f.leases() - before; {
			case err == nil && (made != good || granted[0].Err != nil || granted[1].Err == nil || granted[2].Err != nil):
				t.Errorf("granted %+v, and %d leases are there", granted, made)
			case made == good && err != nil:
				unheard++
			case made != 0 && err != nil:
				t.Errorf("cut at statement %d, after it %t: %d leases are there", n, after, made)
			}
		}
		if !broken {
			break
		}
	}
	if cuts < 20 || unheard != 1 { // of the commit alone nobody hears
		t.Errorf("%d cuts, %d leases that nobody heard of", cuts, unheard)
	}
	if err := f.VerifyChain(t.Context(), f.Team.ID); err != nil {
		t.Error(err)
	}
	t.Logf("%d cuts", cuts)
}

func (f *fixture) leases() int {
	f.t.Helper()
	return got(one(f.t.Context(), f.pool, "leases", pgx.RowTo[int], `select count(*) from leases`))(f.t)
}

// settled waits until the database has noticed that connections have gone.
func (f *fixture) settled() {
	f.t.Helper()
	for {
		busy := got(one(f.t.Context(), f.pool, "sessions", pgx.RowTo[int], `
			select count(*) from pg_stat_activity where datname = current_database() and xact_start is not null and pid <> pg_backend_pid()`))(f.t)
		if busy == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// TestRefusedStatements has the database refuse each thing that a grant writes.
func TestRefusedStatements(t *testing.T) {
	f := newFixture(t)
	c := f.credential(f.vault("prod"), "stripe", "api.stripe.com")
	f.agent("billing", "prod")
	b := f.sandbox("billing")
	got(f.pool.Exec(t.Context(), `create function refuse() returns trigger language plpgsql as $$ begin raise exception 'not today'; end $$`))(t)
	for _, test := range []struct {
		does, table string
		degraded    bool
	}{
		{"insert", "leases", false}, {"delete", "leases", false}, {"insert", "audit_events", true}, {"update", "audit_heads", true},
	} {
		got(f.grant(b.ID, c.ID, 1))(t)
		if err := f.Degraded(); err != nil {
			t.Errorf("with events again degraded is %v", err)
		}
		before := f.leases()
		got(f.pool.Exec(t.Context(), `create trigger refuse before `+test.does+` on `+test.table+` for each statement execute function refuse()`))(t)
		_, err := f.grant(b.ID, c.ID, 1)
		if err == nil || f.leases() != before || f.halves() != 0 {
			t.Errorf("%+v refused: %v, %d leases of %d, %d halves", test, err, f.leases(), before, f.halves())
		}
		if degraded := f.Degraded(); (degraded != nil) != test.degraded {
			t.Errorf("%+v refused: degraded is %v", test, degraded)
		}
		got(f.pool.Exec(t.Context(), `drop trigger refuse on `+test.table))(t)
	}
}

// TestDatabaseIsFull fills the disk that the events are on: nothing is granted without
// an event, and all goes on when there is room.
func TestDatabaseIsFull(t *testing.T) {
	f := newFixture(t)
	c := f.credential(f.vault("prod"), "stripe", "api.stripe.com")
	f.agent("billing", "prod")
	b := f.sandbox("billing")
	dir := smallDisk(t)
	got(f.pool.Exec(t.Context(), `create tablespace small location '`+dir+`'`))(t)
	t.Cleanup(func() {
		f.pool.Exec(context.Background(), `alter table audit_events_first set tablespace pg_default`)
		if _, err := f.pool.Exec(context.Background(), `drop tablespace small`); err != nil {
			t.Error(err)
		}
	})
	got(f.pool.Exec(t.Context(), `alter table audit_events_first set tablespace small`))(t)
	filler := filepath.Join(filepath.Dir(dir), "filler")
	free := got(os.Create(filler))(t)
	for block := make([]byte, 4096); ; {
		if _, err := free.Write(block); errors.Is(err, unix.ENOSPC) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	free.Close()
	before := 0
	var err error
	for ; err == nil && before < 1000; before++ {
		_, err = f.grant(b.ID, c.ID, 1)
	}
	wantCode(t, err, control.CodeUnavailable, "no room")
	if f.leases() != before-1 || f.halves() != 0 || f.Degraded() == nil {
		t.Errorf("with a full disk there are %d leases of %d, and degraded is %v", f.leases(), before-1, f.Degraded())
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	got(f.grant(b.ID, c.ID, 1))(t)
	if err := f.Degraded(); err != nil {
		t.Errorf("with room again degraded is %v", err)
	}
	if err := f.VerifyChain(t.Context(), f.Team.ID); err != nil {
		t.Error(err)
	}
}

// smallDisk gives a directory of Postgres' own on a disk of 256 KiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	root, err := os.MkdirTemp("", "small") // not the test's, which Postgres' user may not enter
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "size=256k,mode=0755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(unix.Unmount(root, unix.MNT_DETACH), os.Remove(root)); err != nil {
			t.Error(err)
		}
	})
	var owner unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d", got(one(t.Context(), superuser(t, cluster.URL()), "process", pgx.RowTo[int], `select pg_backend_pid()`))(t)), &owner); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, "space")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.Chown(dir, int(owner.Uid), int(owner.Gid))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// listen has the store listen until the test ends; it gives what ends it sooner.
func listen(t *testing.T, s *Store) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	connected, done := make(chan struct{}, 100), make(chan error, 1)
	go func() {
		done <- s.Listen(ctx, func(team, _ string) {
			if team == "" {
				connected <- struct{}{}
			}
		}, func(string) {})
	}()
	<-connected
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// TestAwait hears of events that another replica records, by one connection for all
// who wait; a flood of events is one word to whoever does not look.
func TestAwait(t *testing.T) {
	f := newFixture(t)
	other := open(t, f.pool.Config().ConnString())
	listen(t, f.Store)
	stop := listen(t, other)
	beside := f.another("beside")
	own, any, stranger := other.Await(f.Team.ID), other.Await(""), other.Await(beside.Team.ID)
	defer any.Close()
	defer stranger.Close()
	waiting := make([]*Waiting, 500)
	for i := range waiting {
		waiting[i] = other.Await(f.Team.ID)
	}
	quiet(stranger) // of what came before
	f.acts(100)
	for _, w := range append(waiting, own, any) {
		<-w.C
	}
	select {
	case <-stranger.C:
		t.Error("a team hears of another's events")
	default:
	}
	listeners := got(one(t.Context(), f.pool, "listeners", pgx.RowTo[int],
		`select count(*) from pg_stat_activity where datname = current_database() and query like 'listen %'`))(t)
	if listeners != 2 {
		t.Errorf("two replicas listen by %d connections", listeners)
	}
	for _, w := range append(waiting, own) {
		w.Close()
	}
	if n := len(other.recorder.waiting); n != 2 {
		t.Errorf("%d are still waiting", n)
	}

	quiet(any)
	got(f.pool.Exec(t.Context(), `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and query like 'listen %'`))(t)
	<-any.C // connected again: anything may have happened
	stop()
	quiet(any)
	f.acts(1)
	time.Sleep(4 * announcePause)
	select {
	case <-any.C:
		t.Error("it hears without listening")
	default:
	}
}

// quiet takes what w was told, until nothing comes any more.
func quiet(w *Waiting) {
	for {
		select {
		case <-w.C:
		case <-time.After(8 * announcePause):
			return
		}
	}
}

// TestAnnouncementsAreFew: however many events there are, other replicas are told a few
// times a second.
func TestAnnouncementsAreFew(t *testing.T) {
	f := newFixture(t)
	listen(t, f.Store)
	conn := got(pgx.ConnectConfig(t.Context(), f.pool.Config().ConnConfig))(t)
	defer conn.Close(context.Background())
	got(conn.Exec(t.Context(), "listen "+recordings))(t)
	began := time.Now()
	f.acts(300)
	most := int(time.Since(began)/announcePause) + 2
	heard := 0
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 10*announcePause)
		_, err := conn.WaitForNotification(ctx)
		cancel()
		if err != nil {
			break
		}
		heard++
	}
	if heard == 0 || heard > most {
		t.Errorf("300 events were announced %d times, want at most %d", heard, most)
	}
}

// TestDatabaseHangs stops the database's processes in the midst of it: who asks is
// answered when its time is over, and there is no lease without its event.
func TestDatabaseHangs(t *testing.T) {
	f := newFixture(t)
	c := f.credential(f.vault("prod"), "stripe", "api.stripe.com")
	f.agent("billing", "prod")
	b := f.sandbox("billing")
	got(f.grant(b.ID, c.ID, 1))(t)
	sessions := got(all(t.Context(), f.pool, "sessions", pgx.RowTo[int], `
		select pid from pg_stat_activity where datname = current_database() and application_name = 'sallyport-control'`))(t)
	signal := func(s unix.Signal) {
		for _, pid := range sessions {
			unix.Kill(pid, s)
		}
	}
	signal(unix.SIGSTOP)
	defer signal(unix.SIGCONT)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err := f.Grant(ctx, Grant{TeamID: f.Team.ID, SandboxID: b.ID, CredentialID: c.ID, Version: 1, Host: "api.stripe.com", FreshFor: time.Minute, HardFor: time.Hour})
	if len(sessions) == 0 || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%d sessions are stopped, and the answer is %v", len(sessions), err)
	}
	signal(unix.SIGCONT)
	f.settled()
	if f.leases() != 1 || f.halves() != 0 {
		t.Errorf("%d leases, %d halves", f.leases(), f.halves())
	}
	got(f.grant(b.ID, c.ID, 1))(t)
}
