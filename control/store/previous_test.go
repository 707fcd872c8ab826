package store

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

// previousVersion is the last migration of the release before this one, whose
// statements are in testdata/previous.jsonl: the life of a team from its creation over
// sealed secrets, enrolment, leases, rotation, capture and audit to its end.
const previousVersion = 8

// statement is one of the previous release, its arguments as Postgres reads text.
type statement struct {
	SQL  string    `json:"sql"`
	Args []*string `json:"args"`
}

// TestPreviousRelease has the previous release's statements do under the schema of today
// what they did under theirs: both releases run on one database while replicas are upgraded.
func TestPreviousRelease(t *testing.T) {
	text, err := os.ReadFile("testdata/previous.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	var statements []statement
	for line := range bytes.Lines(text) {
		var s statement
		if err := json.Unmarshal(line, &s); err != nil {
			t.Fatal(err)
		}
		statements = append(statements, s)
	}
	before, now := newDatabase(t), newDatabase(t)
	db := stdlib.OpenDB(*got(pgx.ParseConfig(before))(t))
	defer db.Close()
	p := got(goose.NewProvider(goose.DialectPostgres, db, got(fs.Sub(migrations, "migrations"))(t), goose.WithDisableGlobalRegistry(true)))(t)
	got(p.UpTo(t.Context(), previousVersion))(t)
	open(t, now)

	want := replay(t, before, statements)
	for i, tag := range replay(t, now, statements) {
		if tag != want[i] {
			t.Errorf("%s\nwas %q and is %q", statements[i].SQL, want[i], tag)
		}
	}
}

// replay gives what each statement did, as the role that the control plane works as.
func replay(t *testing.T, url string, statements []statement) (tags []string) {
	t.Helper()
	conn := got(pgconn.Connect(t.Context(), url))(t)
	defer conn.Close(t.Context())
	got(conn.Exec(t.Context(), "set role "+appRole).ReadAll())(t)
	for _, s := range statements {
		args := make([][]byte, len(s.Args))
		for i, arg := range s.Args {
			if arg != nil {
				args[i] = []byte(*arg)
			}
		}
		result := conn.ExecParams(t.Context(), s.SQL, args, nil, nil, nil).Read()
		if result.Err != nil {
			t.Fatalf("%s: %v", s.SQL, result.Err)
		}
		tags = append(tags, result.CommandTag.String())
	}
	return tags
}
