package store

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

// before is what a database held before row-level security.
const before = `
	insert into meta values ('sentinel', 'x');
	insert into teams (id, name) values ('00000000-0000-0000-0000-00000000000a', 'a'), ('00000000-0000-0000-0000-00000000000b', 'b');
	insert into audit_heads (team_id) select id from teams;
	insert into vaults (id, team_id, name) select md5('vault' || t.name || n)::uuid, t.id, 'v' || n from teams t, generate_series(1, 3) n;
	insert into vault_keys (team_id, vault_id, version, kek, blob) select team_id, id, 1, 'k', 'b' from vaults;
	insert into credentials (id, team_id, vault_id, name, service, allow_http, auth, username, inject, stray, placeholders, version)
		select md5('credential' || id || n)::uuid, team_id, id, 'c' || n, '', false, 'token', '', '{bearer}', 'block', '{}', 2 from vaults, generate_series(1, 3) n;
	insert into credential_versions (vault_id, credential_id, version, key_version, salt, commitment, ciphertext)
		select vault_id, id, n, 1, sha256((id::text || n)::bytea), sha256('x'), 'x' from credentials, generate_series(1, 2) n;
	insert into credential_hosts (vault_id, credential_id, position, pattern)
		select vault_id, id, n, name || n || '.example.com' from credentials, generate_series(1, 3) n;
	insert into agents (id, team_id, name) select md5('agent' || id)::uuid, id, 'billing' from teams;
	insert into pins (team_id, agent_id, vault_id) select v.team_id, a.id, v.id from vaults v join agents a using (team_id);
	insert into sandboxes (id, team_id, agent_id) select md5('sandbox' || id)::uuid, team_id, id from agents;
	insert into join_tokens (hash, sandbox_id, expires_at) select sha256(id::text::bytea), id, now() + interval '1 hour' from sandboxes;
	insert into tokens (id, team_id, name, role, hash) select id, id, 't', 'owner', sha256(name::text::bytea) from teams;`

// A database with rows is upgraded, whoever owns it, and each team has its own.
func TestUpgrade(t *testing.T) {
	f := newFixture(t) // so that the role is there
	owner := "owner" + strings.ReplaceAll(NewID(), "-", "")
	for _, sql := range []string{`create role ` + owner + ` login`, `grant sallyport_app to ` + owner, `create database ` + owner + ` owner ` + owner} {
		got(f.pool.Exec(t.Context(), sql))(t)
	}
	for name, url := range map[string]string{
		"a superuser":       newDatabase(t),
		"an ordinary owner": strings.Replace(cluster.URL(), "sallyport@/postgres?", owner+"@/"+owner+"?", 1),
	} {
		t.Run(name, func(t *testing.T) {
			db := stdlib.OpenDB(*got(pgx.ParseConfig(url))(t))
			defer db.Close()
			p := got(goose.NewProvider(goose.DialectPostgres, db, got(fs.Sub(migrations, "migrations"))(t), goose.WithDisableGlobalRegistry(true)))(t)
			got(p.UpTo(t.Context(), 4))(t)
			if _, err := db.ExecContext(t.Context(), before); err != nil {
				t.Fatal(err)
			}
			s := open(t, url)
			for _, name := range []string{"a", "b"} {
				upgraded(t, s, name)
			}
		})
	}
}

// upgraded checks that a team has what before gave it.
func upgraded(t *testing.T, s *Store, name string) {
	t.Helper()
	team := got(s.Team(t.Context(), name))(t)
	credentials, _, err := s.Credentials(t.Context(), team.ID, "v1", Page{})
	if err != nil || len(credentials) != 3 || len(credentials[0].Hosts) != 3 || len(credentials[0].Mints) != 0 {
		t.Fatalf("team %s has %+v, %v", name, credentials, err)
	}
	got(s.SealedVersion(t.Context(), team.ID, credentials[0].ID, 2))(t)
	sandboxes, _, err := s.Sandboxes(t.Context(), team.ID, Page{})
	if err != nil || len(sandboxes) != 1 {
		t.Fatalf("team %s has %+v, %v", name, sandboxes, err)
	}
	b := sandboxes[0]
	if joined := got(s.ConsumeJoinToken(t.Context(), hash(b.ID)))(t); joined.TeamID != team.ID {
		t.Errorf("the join token is of %+v", joined)
	}
	if err := s.SetIdentity(t.Context(), team.ID, b.ID, hash("key"), []byte("seal key"), "v1"); err != nil {
		t.Fatal(err)
	}
	if snapshot := got(s.Snapshot(t.Context(), team.ID, b.ID))(t); len(snapshot.Credentials) != 9 {
		t.Errorf("its sandbox has %d credentials", len(snapshot.Credentials))
	}
}
