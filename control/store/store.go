// Package store keeps everything the control plane knows in Postgres, one
// aggregate a file beside its SQL. Nothing else imports pgx.
//
// A change of what a team's sidecars may do increments the team's revision and
// notifies listeners in its own transaction. The lock of the team's row, taken
// first, orders such changes.
//
// Every error for the caller is a control.Error: CodeNotFound for what is not in
// the team, CodeConflict for what exists or contradicts, CodeUnavailable while
// the database is away.
package store

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"sallyport/control"
	"sallyport/control/turns"
)

// Store is safe for concurrent use.
type Store struct {
	pool     *pgxpool.Pool
	log      *slog.Logger
	reports  chan struct{}   // holds one for each batch of events being stored
	owner    *pgx.ConnConfig // of connections as the tables' owner
	alone    *turns.Turns    // of Alone
	removing *turns.Turns    // of changeAlone, which waits for those
	recorder *recorder
	reading  chan struct{} // holds one for each Verify, and Follow that seeks
}

// maxConns is how many connections there are if the URL does not say it with
// pool_max_conns: few enough for four replicas at Postgres' usual limit of 100.
const maxConns = 20

// aloneOfTeam is how many of a team's exchanges may hold a connection at once.
const aloneOfTeam = 2

// Open connects to url, as libpq reads it, and brings the schema up to date.
func Open(ctx context.Context, url string, log *slog.Logger) (*Store, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("read the database's URL: %w", err)
	}
	if !strings.Contains(url, "pool_max_conns") {
		config.MaxConns = maxConns
	}
	config.ConnConfig.RuntimeParams["application_name"] = "sallyport-control"
	config.ConnConfig.RuntimeParams["timezone"] = "UTC"
	config.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		codec := &pgtype.TimestamptzCodec{ScanLocation: time.UTC}
		conn.TypeMap().RegisterType(&pgtype.Type{Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: codec})
		return nil
	}
	if err := migrate(ctx, *config.ConnConfig.Copy()); err != nil {
		return nil, err
	}
	owner := config.ConnConfig.Copy()
	config.ConnConfig.RuntimeParams["role"] = appRole
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	if err := refuseBypass(ctx, pool); err != nil {
		pool.Close()
		return nil, err
	}
	// Batches of one team wait for each other, holding a connection each. Three of
	// four connections are out of their reach.
	reports := make(chan struct{}, max(1, config.MaxConns/4))
	// So are they out of the reach of exchanges, which wait for other servers.
	alone := turns.New(int(max(1, config.MaxConns/4)), aloneOfTeam)
	// And of those who read a chain, a hundred thousand events at a time.
	reading := make(chan struct{}, max(1, config.MaxConns/4))
	// Those who wait for exchanges have fewer still.
	removing := turns.New(int(max(1, config.MaxConns/10)), 1)
	s := &Store{pool: pool, log: log, reports: reports, alone: alone, removing: removing, reading: reading, owner: owner, recorder: newRecorder()}
	if err := s.KeepMonths(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	return s, nil
}

// refuseBypass is an error if row-level security would not hold for us.
func refuseBypass(ctx context.Context, q querier) error {
	bypasses, err := one(ctx, q, "role", pgx.RowTo[bool], `
		select rolsuper or rolbypassrls or exists (select from pg_class where relname = 'teams' and relowner = r.oid)
		from pg_roles r where rolname = current_user`)
	if err == nil && bypasses {
		err = fmt.Errorf("the database's role %s may see the rows of every team: make it neither superuser, nor bypassrls, nor the owner of the tables", appRole)
	}
	return err
}

// Close ends every connection; it waits for those in use.
func (s *Store) Close() { s.pool.Close() }

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	return interpret(s.pool.Ping(ctx), "reach the database", "")
}

// Ahead is how much the database's clock is ahead of this machine's, as far as can be
// told: not more exactly than the answer takes.
func (s *Store) Ahead(ctx context.Context) (time.Duration, error) {
	asked := time.Now()
	there, err := one(ctx, s.pool, "time", pgx.RowTo[time.Time], `select clock_timestamp()`)
	return there.Sub(asked.Add(time.Since(asked) / 2)), err
}

// NewID makes an identifier. Later ones sort after earlier ones.
func NewID() string { return uuid.Must(uuid.NewV7()).String() }

// installation is the id that stands where there is no team.
const installation = "00000000-0000-0000-0000-000000000000"

const (
	defaultLimit = 100
	maxLimit     = 1000
)

// Page asks for a part of a list. Every list gives the cursor of the next page, "" after the last.
type Page struct {
	Limit int    // 0 means 100; at most 1000
	After string // the cursor that the page before gave
}

// limit is how many rows to ask for: one more than wanted shows whether there is a next page.
func (p Page) limit() int { return p.size() + 1 }

func (p Page) size() int {
	switch {
	case p.Limit <= 0:
		return defaultLimit
	case p.Limit > maxLimit:
		return maxLimit
	}
	return p.Limit
}

// cut gives the page's rows of those read, and the cursor of the next page.
func cut[T any](p Page, rows []T, cursor func(T) string) ([]T, string) {
	if len(rows) <= p.size() {
		return rows, ""
	}
	rows = rows[:p.size()]
	return rows, cursor(rows[len(rows)-1])
}

// newest is the id that a list of the newest first goes on below.
func newest(p Page) (string, error) {
	if p.After == "" {
		return uuid.Max.String(), nil
	}
	after, err := uuid.Parse(p.After)
	if err != nil {
		return "", errCursor
	}
	return after.String(), nil
}

var errCursor = control.Errorf(control.CodeInvalid, "the cursor is not one that this list gave: use the value of \"next\" as it is")
