package store

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"sallyport/control"
)

const forbidden = "42501" // SQLSTATE insufficient_privilege

// populate gives the team a row in every table that may have one of a team.
func (f *fixture) populate() {
	f.t.Helper()
	c := f.credential(f.vault("prod"), "stripe", "api.stripe.com")
	vault := got(f.Vault(f.t.Context(), f.Team.ID, "prod"))(f.t)
	got(f.CreateSource(f.t.Context(), f.Team.ID, vault.ID, control.Source{ID: NewID(), Name: "vault", Kind: "vault"}, secret(), testAct()))(f.t)
	f.agent("billing", "prod")
	box := f.sandbox("billing")
	got(f.grant(box.ID, c.ID, 1))(f.t)
	f.limit("stripe", control.Limits{Rate: 1, Approve: control.ApproveFirst, ApproveTimeout: control.DefaultApproveTimeout})
	got(f.AskApproval(f.t.Context(), Question{TeamID: f.Team.ID, SandboxID: box.ID, CredentialID: c.ID, Version: 1, Host: "h", Port: 443, Method: "GET", Path: "/", Request: "r"}))(f.t)
	if _, _, err := f.Allot(f.t.Context(), Share{f.Team.ID, box.ID, c.ID, 1, control.Ask{Rate: 1}}); err != nil {
		f.t.Fatal(err)
	}
	many := int64(1000)
	got(f.SetQuota(f.t.Context(), f.Team.ID, control.QuotaChange{Vaults: &many}, nil, testAct()))(f.t)
	got(f.CreateToken(f.t.Context(), f.Team.ID, control.Token{Name: "ci", Role: control.RoleAdmin}, hash(NewID()), testAct()))(f.t)
}

// relations are all tables and views that there are, so that a new one can't be forgotten here.
func (f *fixture) relations() []string {
	f.t.Helper()
	return got(all(f.t.Context(), f.pool, "relations", pgx.RowTo[string], `
		select relname from pg_class where relnamespace = current_schema()::regnamespace and relkind in ('r', 'p', 'v', 'm', 'f') order by 1`))(f.t)
}

// asApp runs f in a session such as the control plane's own, scoped to a team by
// raw SQL, and rolls it back. team "" is a session that nobody scoped.
func (f *fixture) asApp(team string, do func(tx pgx.Tx)) {
	f.t.Helper()
	tx := got(f.Store.pool.Begin(f.t.Context()))(f.t)
	defer tx.Rollback(context.Background())
	if team != "" {
		got(tx.Exec(f.t.Context(), `select set_config('sallyport.team', $1, true)`, team))(f.t)
	}
	do(tx)
}

// seen are a relation's rows as a session scoped to team sees them, none if it may not look.
func (f *fixture) seen(team, relation string) (rows []string) {
	f.t.Helper()
	f.asApp(team, func(tx pgx.Tx) {
		var err error
		rows, err = all(f.t.Context(), tx, relation, pgx.RowTo[string], `select t::text from `+relation+` t`)
		if err != nil && !refusedByDatabase(err) {
			f.t.Errorf("%s: %v", relation, err)
		}
	})
	return rows
}

func refusedByDatabase(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == forbidden
}

// TestTeamsAreApartInSQL goes at every table with SQL of its own, past all of our
// code, as somebody might who has found a query that forgets its team.
func TestTeamsAreApartInSQL(t *testing.T) {
	f := newFixture(t)
	victim := f.another("victim")
	for _, team := range []*fixture{f, victim} {
		team.populate()
	}
	got(f.CreateToken(t.Context(), "", control.Token{Name: "root", Role: control.RoleOwner}, hash("root"), testAct()))(t)
	got(f.CreateSession(t.Context(), control.Person{Issuer: "i", Subject: "s", Email: "e", Grants: []control.Grant{}}, hash("session"), time.Hour, time.Hour, testAct()))(t)
	got(f.CreateTokenSession(t.Context(), hash("root"), hash("browser"), time.Hour, time.Hour, testAct()))(t)
	got(f.SetMetaIfAbsent(t.Context(), "ca", []byte("value")))(t)
	got(f.pool.Exec(t.Context(), `insert into audit_checkpoints (team_id, position, hash) select id, 1, sha256(id::text::bytea) from teams`))(t)
	got(f.StartKeyRotation(t.Context(), "kek", false, testAct()))(t)
	receiver := got(f.Forward(t.Context(), "siem", nil))(t)
	defer receiver.Close(context.Background())
	got(receiver.Behind(t.Context()))(t)

	// Tables that no team may see a row of, and who may.
	others := map[string]string{"meta": installation, "key_rotations": installation, "sessions": installation, "token_sessions": installation, "audit_forwards": installation, "goose_db_version": "", "audit_events": "",
		"idempotency_keys": ""} // but by the token that they were used with: TestOnce
	for _, relation := range f.relations() {
		t.Run(relation, func(t *testing.T) {
			if rows := f.seen("", relation); len(rows) > 0 {
				t.Errorf("a session without a team sees %d rows", len(rows))
			}
			own, theirs := f.seen(f.Team.ID, relation), f.seen(victim.Team.ID, relation)
			scope, found := others[relation]
			if strings.HasPrefix(relation, "audit_events_") { // a part of audit_events
				found = true
			}
			if found {
				if len(own)+len(theirs) > 0 || scope != "" && len(f.seen(scope, relation)) == 0 {
					t.Errorf("teams see %d and %d rows", len(own), len(theirs))
				}
			} else if len(own) == 0 || len(theirs) == 0 {
				t.Errorf("the teams see %d and %d rows: give each one, or say above who may see them", len(own), len(theirs))
			}
			for _, row := range theirs {
				for _, mine := range own {
					if row == mine {
						t.Errorf("both teams see %s", row)
					}
				}
			}
			f.attack(t, relation, victim.Team.ID, len(own))
		})
	}
}

// attack tries to change rows of victim in a session of f's team, which sees n rows.
func (f *fixture) attack(t *testing.T, relation, victim string, n int) {
	t.Helper()
	column := got(one(t.Context(), f.pool, "column", pgx.RowTo[string], `
		select attname from pg_attribute where attrelid = $1::regclass and attnum > 0 and not attisdropped and attname not in ('id', 'revision') order by attname = 'created_at' desc, attnum limit 1`, relation))(t)
	for _, sql := range []string{"update " + relation + " set " + column + " = " + column, "delete from " + relation} {
		f.asApp(f.Team.ID, func(tx pgx.Tx) {
			if tag, err := tx.Exec(t.Context(), sql); err == nil && tag.RowsAffected() > int64(n) {
				t.Errorf("%s: changed %d rows, and %d are the team's", sql, tag.RowsAffected(), n)
			}
		})
	}
	for _, sql := range []string{"truncate " + relation + " cascade", "alter table " + relation + " disable row level security", "drop table " + relation + " cascade"} {
		f.asApp(f.Team.ID, func(tx pgx.Tx) {
			if _, err := tx.Exec(t.Context(), sql); err == nil {
				t.Errorf("%s: done", sql)
			}
		})
	}
	// A row of the victim, written again: nothing may be added to what is another's.
	theirs := got(all(t.Context(), f.pool, "rows", pgx.RowTo[string], `select to_jsonb(t)::text from `+relation+` t where t::text like '%'||$1||'%' limit 1`, victim))(t)
	for _, row := range theirs {
		f.asApp(f.Team.ID, func(tx pgx.Tx) {
			_, err := tx.Exec(t.Context(), `insert into `+relation+` select * from jsonb_populate_record(null::`+relation+`, $1::jsonb || '{"position": 1000000}')`, row)
			if !refusedByDatabase(err) {
				t.Errorf("a row of another team was not refused for that: %v", err)
			}
		})
	}
}

// TestEveryTableIsSecured is about what is said of tables, whoever looks at them.
func TestEveryTableIsSecured(t *testing.T) {
	f := newFixture(t)
	open := got(all(t.Context(), f.pool, "tables", pgx.RowTo[string], `
		select relname from pg_class c
		where relnamespace = current_schema()::regnamespace and relkind in ('r', 'p', 'm', 'f')
			and has_table_privilege($1, oid, 'select, update, delete, truncate, references, trigger')
			and not (relrowsecurity and relforcerowsecurity)`, appRole))(t)
	views := got(all(t.Context(), f.pool, "views", pgx.RowTo[string], `
		select relname from pg_class where relnamespace = current_schema()::regnamespace and relkind = 'v'
			and not coalesce('security_barrier=true' = any(reloptions), false)`))(t)
	if len(open)+len(views) > 0 {
		t.Errorf("row-level security is not forced on %v, nor a security barrier on %v", open, views)
	}
	if as := got(one(t.Context(), f.in(f.Team.ID), "role", pgx.RowTo[string], `select current_user::text`))(t); as != appRole {
		t.Errorf("the control plane works as %s", as)
	}
}

// TestTokenShowsItselfAlone: whoever presents a token is found by it, and nobody else.
func TestTokenShowsItselfAlone(t *testing.T) {
	f := newFixture(t)
	f.populate()
	for _, table := range []string{"tokens", "join_tokens"} {
		presented := got(one(t.Context(), f.pool, "hash", pgx.RowTo[[]byte], `select hash from `+table+` limit 1`))(t)
		f.populateAgain()
		count := `select count(*) from ` + table
		if n := got(one(t.Context(), f.byToken(presented), "rows", pgx.RowTo[int], count))(t); n != 1 {
			t.Errorf("%s: a token shows %d rows", table, n)
		}
		if n := got(one(t.Context(), f.byToken(hash("guess")), "rows", pgx.RowTo[int], count))(t); n != 0 {
			t.Errorf("%s: a guess shows %d rows", table, n)
		}
	}
}

func (f *fixture) populateAgain() { f.another("another-" + NewID()).populate() }

// The setting does not outlive its transaction, though the connection does.
func TestScopeEndsWithItsTransaction(t *testing.T) {
	url := newDatabase(t)
	s := open(t, url+"&pool_max_conns=1")
	team := got(s.CreateTeam(t.Context(), "default", testAct()))(t)
	_, err := s.Vault(t.Context(), team.ID, "none")
	wantCode(t, err, control.CodeNotFound)
	err = s.inTx(t.Context(), "begin", team.ID, func(tx pgx.Tx) error { return errUnchanged })
	if !errors.Is(err, errUnchanged) {
		t.Fatal(err)
	}
	for _, sql := range []string{`select count(*) from teams`, `select count(*) from audit_log`} {
		if n := got(one(t.Context(), s.pool, "rows", pgx.RowTo[int], sql))(t); n != 0 {
			t.Errorf("%s: %d after the team's transactions", sql, n)
		}
	}
}

// TestOrdinaryOwner is a database whose owner is neither a superuser nor may make roles.
func TestOrdinaryOwner(t *testing.T) {
	f := newFixture(t) // so that the role is there
	name := "owner" + strings.ReplaceAll(NewID(), "-", "")
	got(f.pool.Exec(t.Context(), `create role `+name+` login`))(t)
	got(f.pool.Exec(t.Context(), `create database `+name+` owner `+name))(t)
	url := strings.Replace(cluster.URL(), "sallyport@/postgres?", name+"@/"+name+"?", 1)
	_, err := Open(t.Context(), url, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "grant sallyport_app to "+name) {
		t.Fatalf("without membership: %v", err)
	}
	got(f.pool.Exec(t.Context(), `grant sallyport_app to `+name))(t)
	s := open(t, url)
	owned := &fixture{Store: s, t: t, Team: got(s.CreateTeam(t.Context(), "default", testAct()))(t), pool: superuser(t, url)}
	owned.populate()
	if err := owned.VerifyChain(t.Context(), owned.Team.ID); err != nil {
		t.Error(err)
	}
	if n := got(one(t.Context(), superuser(t, url), "rows", pgx.RowTo[int], `select count(*) from vaults`))(t); n != 0 {
		t.Errorf("the owner sees %d vaults without a team", n)
	}
}

// TestPrivilegedRoleIsRefused: one that sees all teams anyway must not be worked with.
func TestPrivilegedRoleIsRefused(t *testing.T) {
	f := newFixture(t)
	err := refuseBypass(t.Context(), f.pool)
	if err == nil || !strings.Contains(err.Error(), "every team") {
		t.Errorf("got %v", err)
	}
	if err := refuseBypass(t.Context(), f.Store.pool); err != nil {
		t.Error(err)
	}
}
