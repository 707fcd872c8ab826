package store

import (
	"context"
	"encoding/hex"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// appRole is what every statement runs as but the migrations: it is neither a
// superuser nor the owner of a table, so row-level security holds for it.
const appRole = "sallyport_app"

// scope is what a single statement, or a few, see. The setting goes along with it, as one
// implicit transaction in one round trip.
type scope struct {
	pool  *pgxpool.Pool
	team  string
	token []byte // the hash of a token that was presented, whose row is seen too
}

// in sees the rows of one team, or of the installation.
func (s *Store) in(teamID string) scope { return scope{pool: s.pool, team: teamID} }

// byToken sees the installation's, and the row of one token: to find out whose it is.
func (s *Store) byToken(hash []byte) scope {
	return scope{pool: s.pool, team: installation, token: hash}
}

// open makes the scope that of what is queued behind it.
func (q scope) open(batch *pgx.Batch) {
	batch.Queue(`select set_config('sallyport.team', $1, true), set_config('sallyport.token', $2, true)`, q.team, hex.EncodeToString(q.token))
}

func (q scope) send(ctx context.Context, sql string, args []any) (pgx.BatchResults, error) {
	var batch pgx.Batch
	q.open(&batch)
	batch.Queue(sql, args...)
	results := q.pool.SendBatch(ctx, &batch)
	if _, err := results.Exec(); err != nil {
		results.Close()
		return nil, err
	}
	return results, nil
}

// Query implements querier.
func (q scope) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	results, err := q.send(ctx, sql, args)
	if err != nil {
		return nil, err
	}
	rows, err := results.Query()
	if err != nil {
		results.Close()
		return nil, err
	}
	return &scopedRows{Rows: rows, results: results}, nil
}

// QueryRow implements querier.
func (q scope) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	rows, err := q.Query(ctx, sql, args...)
	return scopedRow{rows, err}
}

// Exec implements querier.
func (q scope) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	results, err := q.send(ctx, sql, args)
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	tag, err := results.Exec()
	if ended := results.Close(); err == nil {
		err = ended
	}
	return tag, err
}

// scopedRows are rows whose transaction ends with them.
type scopedRows struct {
	pgx.Rows
	results pgx.BatchResults
	ended   error
}

func (r *scopedRows) Close() {
	r.Rows.Close()
	if err := r.results.Close(); r.ended == nil {
		r.ended = err
	}
}

func (r *scopedRows) Next() bool {
	more := r.Rows.Next()
	if !more {
		r.Close()
	}
	return more
}

func (r *scopedRows) Err() error {
	if err := r.Rows.Err(); err != nil {
		return err
	}
	return r.ended
}

type scopedRow struct {
	rows pgx.Rows
	err  error
}

func (r scopedRow) Scan(into ...any) error {
	if r.err != nil {
		return r.err
	}
	defer r.rows.Close()
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return pgx.ErrNoRows
	}
	if err := r.rows.Scan(into...); err != nil {
		return err
	}
	r.rows.Close()
	return r.rows.Err()
}
