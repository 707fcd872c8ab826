package rekey

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"sallyport/control"
	testcluster "sallyport/control/controltest/cluster"
	"sallyport/control/controltest/cutter"
	"sallyport/control/embedded"
	"sallyport/control/identity"
	"sallyport/control/seal"
	"sallyport/control/store"
)

var cluster *embedded.Cluster

func TestMain(m *testing.M) { testcluster.Main(m, &cluster) }

// must gives v, or fails the test: must(f())(t).
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// plain are the versions of one secret.
type plain struct {
	identity control.SecretIdentity
	value    string
}

// fixture is a sealed database.
type fixture struct {
	*store.Store
	url     string
	pool    *pgxpool.Pool // of a superuser
	a, b    *seal.FileKEK // it is sealed with a at first
	secrets []plain
}

var databases atomic.Int64

func newDatabase(t *testing.T) (url string) {
	t.Helper()
	conn := must(pgx.Connect(t.Context(), cluster.URL()))(t)
	defer conn.Close(context.Background())
	name := fmt.Sprintf("test%d", databases.Add(1))
	must(conn.Exec(t.Context(), "create database "+name))(t)
	return strings.Replace(cluster.URL(), "/postgres?", "/"+name+"?", 1)
}

func open(t *testing.T, url string) *store.Store {
	t.Helper()
	s := must(store.Open(t.Context(), url, slog.New(slog.DiscardHandler)))(t)
	t.Cleanup(s.Close)
	return s
}

func newKEK(t *testing.T, name string, fill byte) *seal.FileKEK {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(strings.Repeat(string(fill), 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	return must(seal.OpenFile(t.Context(), path, nil))(t)
}

var act = control.Event{Kind: "test", Actor: "test"}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	url := newDatabase(t)
	pool := must(pgxpool.New(t.Context(), url))(t)
	t.Cleanup(pool.Close)
	f := &fixture{Store: open(t, url), url: url, pool: pool, a: newKEK(t, "a", 'a'), b: newKEK(t, "b", 'b')}
	if err := seal.CheckSentinel(t.Context(), f, f.a, "a"); err != nil {
		t.Fatal(err)
	}
	must(identity.Load(t.Context(), f, f.a, time.Now))(t)
	return f
}

// team makes a team with vaults of one credential with two versions each.
func (f *fixture) team(t *testing.T, kek seal.KEK, vaults ...string) {
	t.Helper()
	s := seal.New(kek)
	defer s.Close()
	team := must(f.CreateTeam(t.Context(), "t"+store.NewID(), act))(t)
	for _, name := range vaults {
		v := control.Vault{ID: store.NewID(), Name: name}
		key := must(s.NewDataKey(t.Context(), team.ID, v.ID))(t)
		must(f.CreateVault(t.Context(), team.ID, v, key, act))(t)
		c := control.Credential{ID: store.NewID(), Name: "c", Hosts: []string{name + ".example.com"}, Auth: control.AuthToken, Stray: control.StrayBlock}
		for version := int64(1); version <= 2; version++ {
			p := plain{control.SecretIdentity{Team: team.ID, Vault: v.ID, Credential: c.ID, Version: version, Field: control.FieldSecret}, fmt.Sprintf("secret %s %d", c.ID, version)}
			f.secrets = append(f.secrets, p)
			sealed := must(s.Seal(t.Context(), key, p.identity, control.Secret(p.value)))(t)
			var err error
			if version == 1 {
				_, _, err = f.CreateCredential(t.Context(), team.ID, v.ID, c, sealed, act)
			} else {
				_, _, err = f.RotateCredential(t.Context(), team.ID, c.ID, 1, sealed, act)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	f.source(t, s, team.ID, vaults[0])
}

// source makes a source in a vault, and a credential whose secret lies there.
func (f *fixture) source(t *testing.T, s *seal.Sealer, team, vault string) {
	t.Helper()
	v := must(f.Vault(t.Context(), team, vault))(t)
	key := must(f.VaultKey(t.Context(), team, v.ID))(t)
	place := must(control.ParsePlace("s:kv/data/x#key"))(t)
	c := control.Credential{ID: store.NewID(), Name: "d", Hosts: []string{vault + ".example.org"}, Auth: control.AuthToken, Stray: control.StrayBlock, From: &place}
	source := control.Source{ID: store.NewID(), Name: "s", Kind: "vault"}
	for _, p := range []plain{
		{control.SecretIdentity{Team: team, Vault: v.ID, Credential: source.ID, Version: 1, Field: control.FieldSource}, "opens " + source.ID},
		{control.SecretIdentity{Team: team, Vault: v.ID, Credential: c.ID, Version: 1, Field: control.FieldDigest}, "digest " + c.ID},
	} {
		f.secrets = append(f.secrets, p)
		sealed := must(s.Seal(t.Context(), key, p.identity, control.Secret(p.value)))(t)
		var err error
		if p.identity.Field == control.FieldSource {
			_, err = f.CreateSource(t.Context(), team, v.ID, source, sealed, act)
		} else {
			_, _, err = f.CreateCredential(t.Context(), team, v.ID, c, sealed, act)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// sealed is where a secret is now.
func (f *fixture) sealed(t *testing.T, id control.SecretIdentity) (s control.SealedSecret) {
	t.Helper()
	if id.Field != control.FieldSource {
		return must(f.SealedVersion(t.Context(), id.Team, id.Credential, id.Version))(t)
	}
	row := f.pool.QueryRow(t.Context(), `select key_version, salt, commitment, ciphertext from sources where id = $1`, id.Credential)
	if err := row.Scan(&s.KeyVersion, &s.Salt, &s.Commitment, &s.Ciphertext); err != nil {
		t.Fatal(err)
	}
	return s
}

// opens checks that every secret opens with these keys.
func (f *fixture) opens(t *testing.T, kek seal.KEK) {
	t.Helper()
	s := seal.New(kek)
	defer s.Close()
	for _, p := range f.secrets {
		id := p.identity
		sealed := f.sealed(t, id)
		key := control.WrappedKey{Version: sealed.KeyVersion}
		if err := f.pool.QueryRow(t.Context(), `select kek, blob from vault_keys where vault_id = $1 and version = $2`, id.Vault, key.Version).Scan(&key.KEK, &key.Blob); err != nil {
			t.Fatal(err)
		}
		secret, err := s.Open(t.Context(), key, id, sealed)
		if err != nil || string(secret) != p.value {
			t.Fatalf("%q opened as %q, %v", p.value, string(secret), err)
		}
	}
	must(identity.Load(t.Context(), f, kek, time.Now))(t)
	if err := seal.CheckSentinel(t.Context(), f, kek, "test"); err != nil {
		t.Fatal(err)
	}
}

// events counts those of a kind among the installation's.
func (f *fixture) events(t *testing.T, kind string) (n int) {
	t.Helper()
	if err := f.pool.QueryRow(t.Context(), `select count(*) from audit_events where kind = $1`, kind).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// complete has another process finish the rotation, as soon as the database has
// noticed that the one before is gone.
func (f *fixture) complete(t *testing.T, ring *seal.Keyring) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if err := rotator(f.Store, ring).Pass(t.Context()); err != nil {
			t.Fatal(err)
		}
		if r := must(f.KeyRotation(t.Context()))(t); r.FinishedAt != nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the rotation is not completed")
		}
	}
}

// done checks that nothing needs another key than to.
func (f *fixture) done(t *testing.T, to *seal.FileKEK) {
	t.Helper()
	f.opens(t, to)
	r := must(f.KeyRotation(t.Context()))(t)
	uses := must(f.KeyUse(t.Context(), &r))(t)
	if r.FinishedAt == nil || r.Remaining != 0 || len(uses) != 1 || uses[0].KEK != to.ID() {
		t.Fatalf("%+v of %+v", uses, r)
	}
}

func rotator(s *store.Store, kek seal.Provider) *Rotator {
	return New(s, seal.New(kek), kek, slog.New(slog.DiscardHandler))
}

// TestCutAtEveryStatement ends the connections at each statement of a rotation, before
// and after it is done. Every secret opens then, and another process completes it.
func TestCutAtEveryStatement(t *testing.T) {
	f := newFixture(t)
	f.team(t, f.a, "x")
	cut := cutter.New(t, f.url)
	from, to := f.a, f.b
	both := must(seal.NewKeyring(f.a, f.b))(t)
	cuts := 0
	for n := 1; ; n++ {
		broken := false
		for _, after := range []bool{false, true} {
			ring := must(seal.NewKeyring(to, from))(t)
			must(rotator(f.Store, ring).Start(t.Context(), true, act))(t)
			s := must(store.Open(t.Context(), cut.URL, slog.New(slog.DiscardHandler)))(t)
			cut.Arm(n, after)
			err := rotator(s, ring).Pass(t.Context())
			_, broken = cut.Seen()
			cut.Arm(0, false)
			s.Close()
			if broken {
				cuts++
				f.opens(t, both)
			} else if err != nil {
				t.Fatal(err)
			}
			f.complete(t, ring)
			f.done(t, to)
			from, to = to, from
		}
		if !broken {
			break
		}
	}
	if cuts < 50 {
		t.Errorf("only %d cuts: the statements were not seen", cuts)
	}
	t.Logf("%d cuts", cuts)
}

// TestTwoAtOnce has two replicas work on one rotation while a third stores secrets.
func TestTwoAtOnce(t *testing.T) {
	f := newFixture(t)
	f.team(t, f.a, "x", "y", "z")
	ring := must(seal.NewKeyring(f.b, f.a))(t)
	must(rotator(f.Store, ring).Start(t.Context(), true, act))(t)
	var group sync.WaitGroup
	for range 2 {
		s := open(t, f.url)
		group.Go(func() {
			if err := rotator(s, ring).Pass(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	f.team(t, ring, "u", "v", "w")
	group.Wait()
	f.done(t, f.b)
	if events := f.events(t, "key.rotated"); events != 1 {
		t.Errorf("it was done %d times", events)
	}
}

// TestStaleReplica wraps a data key under the key that a rotation has left.
func TestStaleReplica(t *testing.T) {
	f := newFixture(t)
	f.team(t, f.a, "x")
	ring := must(seal.NewKeyring(f.b, f.a))(t)
	must(rotator(f.Store, ring).Start(t.Context(), false, act))(t)
	stale := seal.New(f.a)
	defer stale.Close()
	team, v := must(f.CreateTeam(t.Context(), "stale", act))(t), control.Vault{ID: store.NewID(), Name: "v"}
	key := must(stale.NewDataKey(t.Context(), team.ID, v.ID))(t)
	if _, err := f.CreateVault(t.Context(), team.ID, v, key, act); control.CodeOf(err) != control.CodeUnavailable || !strings.Contains(err.Error(), f.b.ID()) {
		t.Errorf("got %v", err)
	}
	// One that knows only the old key leaves the rotation to others.
	if err := rotator(f.Store, f.a).Pass(t.Context()); err != nil {
		t.Error(err)
	}
	if r := must(f.KeyRotation(t.Context()))(t); r.FinishedAt != nil {
		t.Error("it finished a rotation to a key that it has not")
	}
	if err := rotator(f.Store, ring).Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.done(t, f.b)
}

// TestSealedMeanwhile seals a secret under a data key that is replaced before it is stored.
func TestSealedMeanwhile(t *testing.T) {
	f := newFixture(t)
	f.team(t, f.a, "x")
	s := seal.New(f.a)
	defer s.Close()
	id := f.secrets[1].identity
	key := must(f.VaultKey(t.Context(), id.Team, id.Vault))(t)
	id.Version = 3
	sealed := must(s.Seal(t.Context(), key, id, control.Secret("late")))(t)
	must(rotator(f.Store, f.a).Start(t.Context(), true, act))(t)
	if err := rotator(f.Store, f.a).Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.RotateCredential(t.Context(), id.Team, id.Credential, 2, sealed, act); !errors.Is(err, store.ErrKeyReplaced) {
		t.Errorf("got %v", err)
	}
	f.done(t, f.a)
	if _, err := f.pool.Exec(t.Context(), `delete from vault_keys`); err == nil {
		t.Error("the data keys of secrets were deleted")
	}
}
