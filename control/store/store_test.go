package store

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"sallyport/control"
	"sallyport/control/api"
	testcluster "sallyport/control/controltest/cluster"
	"sallyport/control/embedded"
)

// cluster is where every test has a database of its own.
var cluster *embedded.Cluster

func TestMain(m *testing.M) { testcluster.Main(m, &cluster) }

var databases atomic.Int64

// newDatabase gives the URL of an empty database.
func newDatabase(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test%d", databases.Add(1))
	createDatabase(t, name)
	return urlOf(name)
}

func createDatabase(t testing.TB, sql string) {
	t.Helper()
	conn := got(pgx.Connect(t.Context(), cluster.URL()))(t)
	defer conn.Close(context.Background())
	got(conn.Exec(t.Context(), "create database "+sql))(t)
}

func urlOf(database string) string {
	return strings.Replace(cluster.URL(), "/postgres?", "/"+database+"?", 1)
}

var migrateOnce sync.Once

// migratedDatabase gives the URL of a database without rows. It is a copy, since the
// migrations take longer than most tests.
func migratedDatabase(t testing.TB) string {
	t.Helper()
	const migrated = "migrated"
	migrateOnce.Do(func() {
		createDatabase(t, migrated)
		got(Open(t.Context(), urlOf(migrated), slog.New(slog.DiscardHandler)))(t).Close()
	})
	name := fmt.Sprintf("test%d", databases.Add(1))
	createDatabase(t, name+" template "+migrated)
	return urlOf(name)
}

func open(t testing.TB, url string) *Store {
	t.Helper()
	s, err := Open(t.Context(), url, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func newStore(t testing.TB) *Store {
	t.Helper()
	return open(t, migratedDatabase(t))
}

// fixture is a team to write tests with; its methods fail the test.
type fixture struct {
	*Store
	t    testing.TB
	Team control.Team
	pool *pgxpool.Pool // of a superuser, who sees every team; the store's own is Store.pool

	sessions sync.Map // by sandbox
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	url := migratedDatabase(t)
	s := open(t, url)
	return &fixture{Store: s, t: t, Team: got(s.CreateTeam(t.Context(), "default", testAct()))(t), pool: superuser(t, url)}
}

// superuser gives connections that no row-level security holds for.
func superuser(t testing.TB, url string) *pgxpool.Pool {
	t.Helper()
	pool := got(pgxpool.New(t.Context(), url))(t)
	t.Cleanup(pool.Close)
	return pool
}

// got fails the test on an error: got(f())(t).
func got[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// another is the same store with another team.
func (f *fixture) another(name string) *fixture {
	f.t.Helper()
	return &fixture{Store: f.Store, t: f.t, Team: got(f.CreateTeam(f.t.Context(), name, testAct()))(f.t), pool: f.pool}
}

// testAct is what every change of a test is recorded as.
func testAct() control.Event { return control.Event{Kind: "test", Actor: "token:test"} }

// Events leaves those acts out.
func (f *fixture) Events(ctx context.Context, teamID string, page Page) ([]control.Event, string, error) {
	events, next, err := f.Store.Events(ctx, teamID, page)
	return slices.DeleteFunc(events, func(e control.Event) bool { return e.Kind == testAct().Kind }), next, err
}

// AppendEvents is by the sandbox that holds its stream.
func (f *fixture) AppendEvents(ctx context.Context, teamID, sandboxID string, reports []Report) (uint64, error) {
	session, _ := f.sessions.LoadOrStore(sandboxID, sync.OnceValue(func() string {
		session, err := f.OpenStream(ctx, teamID, Opening{sandboxID, hash("key"), api.Opening{Worker: 1, Stream: 1}}, "replica")
		if err != nil {
			return ""
		}
		return session.String()
	}))
	return f.Store.AppendEvents(ctx, teamID, sandboxID, session.(func() string)(), reports)
}

// AppendAct records an act that changes nothing.
func (f *fixture) AppendAct(ctx context.Context, teamID string, e control.Event) error {
	return f.act(ctx, teamID, e, func(pgx.Tx) error { return nil })
}

func (f *fixture) vault(name string) control.Vault {
	f.t.Helper()
	key := control.WrappedKey{KEK: "kek", Version: 1, Blob: []byte("blob of " + name)}
	return got(f.CreateVault(f.t.Context(), f.Team.ID, control.Vault{ID: NewID(), Name: name}, key, testAct()))(f.t)
}

func credential(name string, hosts ...string) control.Credential {
	rule, err := control.ParseRule("bearer")
	if err != nil {
		panic(err)
	}
	return control.Credential{
		ID: NewID(), Name: name, Hosts: hosts, Auth: control.AuthToken, Inject: []control.Rule{rule},
		Stray: control.StrayBlock, Placeholders: []string{"vault:" + name},
	}
}

func secret() control.SealedSecret {
	salt := sha256.Sum256([]byte(NewID()))
	return control.SealedSecret{KeyVersion: 1, Salt: salt[:], Commitment: make([]byte, 32), Ciphertext: []byte("ciphertext")}
}

func (f *fixture) credential(v control.Vault, name string, hosts ...string) control.Credential {
	f.t.Helper()
	c, _, err := f.CreateCredential(f.t.Context(), f.Team.ID, v.ID, credential(name, hosts...), secret(), testAct())
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

func (f *fixture) agent(name string, vaults ...string) control.Agent {
	f.t.Helper()
	got(f.CreateAgent(f.t.Context(), f.Team.ID, name, testAct()))(f.t)
	for _, v := range vaults {
		got(f.Pin(f.t.Context(), f.Team.ID, name, v, testAct()))(f.t)
	}
	return got(f.Agent(f.t.Context(), f.Team.ID, name))(f.t)
}

func hash(s string) []byte {
	sum := sha256.Sum256([]byte(s))
	return sum[:]
}

// sandbox makes an enrolled sandbox.
func (f *fixture) sandbox(agent string) control.Sandbox {
	f.t.Helper()
	token := hash(NewID())
	b := got(f.CreateSandbox(f.t.Context(), f.Team.ID, agent, token, time.Now().Add(time.Hour), testAct()))(f.t)
	got(f.ConsumeJoinToken(f.t.Context(), token))(f.t)
	if err := f.SetIdentity(f.t.Context(), f.Team.ID, b.ID, hash("key"), []byte("seal key"), "v1"); err != nil {
		f.t.Fatal(err)
	}
	return got(f.Sandbox(f.t.Context(), f.Team.ID, b.ID))(f.t)
}

func (f *fixture) revision() int64 {
	f.t.Helper()
	return got(one(f.t.Context(), f.pool, "team", pgx.RowTo[int64], `select revision from teams where id = $1`, f.Team.ID))(f.t)
}

// wantCode fails the test unless err has the code and its message every one of parts.
func wantCode(t *testing.T, err error, code control.Code, parts ...string) {
	t.Helper()
	if err == nil || control.CodeOf(err) != code {
		t.Fatalf("got error %v with code %q, want code %q", err, control.CodeOf(err), code)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the message %q does not name %q", err, part)
		}
	}
}

func TestMigrateTwiceAndAtOnce(t *testing.T) {
	url := newDatabase(t)
	errs := make(chan error)
	for range 2 {
		go func() {
			s, err := Open(t.Context(), url, slog.New(slog.DiscardHandler))
			if err == nil {
				s.Close()
			}
			errs <- err
		}()
	}
	for range 2 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	s := open(t, url)
	got(s.CreateTeam(t.Context(), "kept", testAct()))(t)
	got(open(t, url).Team(t.Context(), "kept"))(t)
}

func TestNewerDatabaseIsRefused(t *testing.T) {
	url := newDatabase(t)
	s := open(t, url)
	s.Close()
	if _, err := superuser(t, url).Exec(t.Context(), `insert into goose_db_version (version_id, is_applied) values (9999, true)`); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), url, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "newer control plane") {
		t.Errorf("got %v", err)
	}
}

func TestDatabaseAway(t *testing.T) {
	_, err := Open(t.Context(), "postgres://sallyport@/postgres?host=/nowhere", slog.New(slog.DiscardHandler))
	wantCode(t, err, control.CodeUnavailable)
}

func TestTeamsArePaged(t *testing.T) {
	s := newStore(t)
	for i := range 5 {
		got(s.CreateTeam(t.Context(), fmt.Sprintf("team-%d", i), testAct()))(t)
	}
	var names []string
	for page := (Page{Limit: 2}); ; {
		teams, next, err := s.Teams(t.Context(), page)
		if err != nil {
			t.Fatal(err)
		}
		for _, team := range teams {
			names = append(names, team.Name)
		}
		if next == "" {
			break
		}
		page.After = next
	}
	if got := strings.Join(names, " "); got != "team-0 team-1 team-2 team-3 team-4" {
		t.Errorf("listed %s", got)
	}
	_, err := s.CreateTeam(t.Context(), "team-0", testAct())
	wantCode(t, err, control.CodeConflict, "team-0")
	_, err = s.CreateTeam(t.Context(), "Team 0", testAct())
	wantCode(t, err, control.CodeInvalid)
	_, err = s.Team(t.Context(), "team-9")
	wantCode(t, err, control.CodeNotFound, "team-9")
}

// TestOtherTeamSeesNothing calls everything with ids and names of another team.
func TestOtherTeamSeesNothing(t *testing.T) {
	f := newFixture(t)
	v := f.vault("prod")
	c := f.credential(v, "stripe", "api.stripe.com")
	f.agent("billing", "prod")
	b := f.sandbox("billing")
	got(f.CreateToken(t.Context(), f.Team.ID, control.Token{Name: "ci", Role: control.RoleAdmin}, hash("ci"), testAct()))(t)
	thief := f.another("thief")
	thief.vault("own")
	ctx, id := t.Context(), thief.Team.ID
	for name, call := range map[string]func() error{
		"Vault":       func() error { _, err := f.Vault(ctx, id, "prod"); return err },
		"VaultKey":    func() error { _, err := f.VaultKey(ctx, id, v.ID); return err },
		"DeleteVault": func() error { _, err := f.DeleteVault(ctx, id, "prod", testAct()); return err },
		"CreateCredential": func() error {
			_, _, err := f.CreateCredential(ctx, id, v.ID, credential("x", "x.test"), secret(), testAct())
			return err
		},
		"Credential":       func() error { _, err := f.Credential(ctx, id, "prod", "stripe"); return err },
		"Credentials":      func() error { _, _, err := f.Credentials(ctx, id, "prod", Page{}); return err },
		"Rotate":           func() error { _, _, err := f.RotateCredential(ctx, id, c.ID, 1, secret(), testAct()); return err },
		"DeleteCredential": func() error { _, err := f.DeleteCredential(ctx, id, "prod", "stripe", testAct()); return err },
		"SealedVersion":    func() error { _, err := f.SealedVersion(ctx, id, c.ID, 1); return err },
		"Agent":            func() error { _, err := f.Agent(ctx, id, "billing"); return err },
		"DeleteAgent":      func() error { _, err := f.DeleteAgent(ctx, id, "billing", testAct()); return err },
		"Pin":              func() error { _, err := f.Pin(ctx, id, "billing", "own", testAct()); return err },
		"Unpin":            func() error { _, err := f.Unpin(ctx, id, "billing", "prod", testAct()); return err },
		"CreateSandbox": func() error {
			_, err := f.CreateSandbox(ctx, id, "billing", hash("x"), time.Now(), testAct())
			return err
		},
		"Sandbox":             func() error { _, err := f.Sandbox(ctx, id, b.ID); return err },
		"RevokeSandbox":       func() error { _, err := f.RevokeSandbox(ctx, id, b.ID, testAct()); return err },
		"Identity":            func() error { _, err := f.Identity(ctx, id, b.ID); return err },
		"AppendEvents":        func() error { _, err := f.AppendEvents(ctx, id, b.ID, []Report{{Sequence: 1}}); return err },
		"DeleteToken":         func() error { return f.DeleteToken(ctx, id, "ci", testAct()) },
		"an id that is none":  func() error { _, err := f.Sandbox(ctx, id, "x'; drop table teams"); return err },
		"a team that is none": func() error { _, err := f.CreateAgent(ctx, NewID(), "x", testAct()); return err },
	} {
		t.Run(name, func(t *testing.T) { wantCode(t, call(), control.CodeNotFound) })
	}
	_, err := f.Bound(ctx, id, b.ID, c.ID, 1)
	wantCode(t, err, control.CodeForbidden)
	if after := got(f.Credential(ctx, f.Team.ID, "prod", "stripe"))(t); after.Version != 1 {
		t.Errorf("the other team changed the credential: %+v", after)
	}
	for name, list := range map[string]func() (int, error){
		"vaults":    func() (int, error) { v, _, err := f.Vaults(ctx, id, Page{}); return len(v) - 1, err },
		"agents":    func() (int, error) { v, _, err := f.Agents(ctx, id, Page{}); return len(v), err },
		"sandboxes": func() (int, error) { v, _, err := f.Sandboxes(ctx, id, Page{}); return len(v), err },
		"tokens":    func() (int, error) { v, _, err := f.Tokens(ctx, id, Page{}); return len(v), err },
		"events":    func() (int, error) { v, _, err := f.Events(ctx, id, Page{}); return len(v), err },
	} {
		if n := got(list())(t); n != 0 {
			t.Errorf("the other team lists %d %s", n, name)
		}
	}
}

func TestMeta(t *testing.T) {
	s := newStore(t)
	_, err := s.GetMeta(t.Context(), "ca")
	wantCode(t, err, control.CodeNotFound)
	for _, value := range []string{"first", "second"} {
		if got := got(s.SetMetaIfAbsent(t.Context(), "ca", []byte(value)))(t); string(got) != "first" {
			t.Errorf("setting %s gave %s", value, got)
		}
	}
}
