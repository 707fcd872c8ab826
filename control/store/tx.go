package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"sallyport/control"
)

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// readOnly sees the database as it was at its beginning.
const readOnly = "begin isolation level repeatable read read only"

// inTx runs f in a transaction that sees the rows of one team, or of the
// installation, and commits if f returns nil. begin is "begin" or readOnly.
func (s *Store) inTx(ctx context.Context, begin, teamID string, f func(pgx.Tx) error) (err error) {
	team, err := uuid.Parse(teamID)
	if err != nil {
		return control.Errorf(control.CodeNotFound, "there is no such team")
	}
	options := pgx.TxOptions{BeginQuery: fmt.Sprintf("%s; set local sallyport.team = '%s'", begin, team)}
	var recorded recording
	ended := pgx.BeginTxFunc(ctx, s.pool, options, func(tx pgx.Tx) error {
		recorded.Tx = tx
		err = f(&recorded)
		return err
	})
	if err == nil {
		err = interpret(ended, "commit", "such thing")
	}
	s.recorder.ended(&recorded, err)
	return err
}

// act runs f in a transaction and records a there, so that nothing is done
// without an event that tells of it. teamID "" is the installation itself.
func (s *Store) act(ctx context.Context, teamID string, a control.Event, f func(pgx.Tx) error) error {
	return s.inTx(ctx, "begin", orInstallation(teamID), func(tx pgx.Tx) error {
		if err := f(tx); err != nil {
			return err
		}
		return appendEvent(ctx, tx, orInstallation(teamID), record{Event: a})
	})
}

// change is act with a new revision of the team. The team's row is locked from
// the start, so changes of one team happen one after another, and no reader sees
// the revision without the change.
func (s *Store) change(ctx context.Context, teamID string, a control.Event, f func(pgx.Tx) error) (revision int64, err error) {
	return s.changeAfter(ctx, teamID, a, func(pgx.Tx) error { return nil }, f)
}

// changeAfter is change after first, which waits for what may take long: it locks
// nothing that a change of something else would wait for.
func (s *Store) changeAfter(ctx context.Context, teamID string, a control.Event, first, f func(pgx.Tx) error) (revision int64, err error) {
	err = s.act(ctx, teamID, a, func(tx pgx.Tx) error {
		if err := first(tx); err != nil {
			return err
		}
		if revision, err = bump(ctx, tx, teamID); err != nil {
			return err
		}
		return f(tx)
	})
	return revision, err
}

// channel is where Listen listens.
const channel = "sallyport_changed"

// decisions is where Listen hears of those about approvals.
const decisions = "sallyport_decided"

func bump(ctx context.Context, tx pgx.Tx, teamID string) (revision int64, err error) {
	err = tx.QueryRow(ctx, `
		with bumped as (update teams set revision = revision + 1 where id = $1 returning revision)
		select revision from bumped, pg_notify('`+channel+`', $1::text)`, teamID).Scan(&revision)
	return revision, interpret(err, "count the team's revision", "such team")
}

// one collects the only row of a query; what names it in the error when there is none.
func one[T any](ctx context.Context, q querier, what string, scan pgx.RowToFunc[T], sql string, args ...any) (T, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		var none T
		return none, interpret(err, "read "+what, what)
	}
	v, err := pgx.CollectExactlyOneRow(rows, scan)
	return v, interpret(err, "read "+what, what)
}

// all collects the rows of a query.
func all[T any](ctx context.Context, q querier, what string, scan pgx.RowToFunc[T], sql string, args ...any) ([]T, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, interpret(err, "read "+what, what)
	}
	v, err := pgx.CollectRows(rows, scan)
	return v, interpret(err, "read "+what, what)
}

// must is the error of a statement that has to touch a row.
func must(tag pgconn.CommandTag, err error, doing, what string) error {
	if err == nil && tag.RowsAffected() == 0 {
		err = pgx.ErrNoRows
	}
	return interpret(err, doing, what)
}

// SQLSTATEs, PostgreSQL manual, appendix A.
const (
	invalidText         = "22P02" // an id that is no id
	foreignKeyViolation = "23503"
	uniqueViolation     = "23505"
	checkViolation      = "23514"
	serialization       = "40001"
	deadlock            = "40P01"
	tooManyConnections  = "53300"
	lockNotAvailable    = "55P03"

	insufficientResources = "53" // their class
)

// interpret is the one place where an error of pgx becomes the caller's. what
// names the thing ("vault \"prod\"") and doing the act ("create vault \"prod\"").
func interpret(err error, doing, what string) error {
	if err == nil || control.CodeOf(err) != "" {
		return err
	}
	var pg *pgconn.PgError
	var connect *pgconn.ConnectError
	var network net.Error
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w", doing, err)
	case errors.Is(err, pgx.ErrNoRows):
		return control.Errorf(control.CodeNotFound, "there is no %s", what)
	case errors.As(err, &pg):
		return interpretState(pg, err, doing, what)
	case errors.As(err, &connect), errors.As(err, &network), pgconn.SafeToRetry(err),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return fmt.Errorf("%w: %w", control.Errorf(control.CodeUnavailable, "the database can't be reached: try again"), err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

func interpretState(pg *pgconn.PgError, err error, doing, what string) error {
	switch pg.Code {
	case invalidText, foreignKeyViolation:
		return control.Errorf(control.CodeNotFound, "there is no %s", what)
	case uniqueViolation:
		return control.Errorf(control.CodeConflict, "%s: it exists already", doing)
	case checkViolation:
		return fmt.Errorf("%w: %w", control.Errorf(control.CodeInvalid, "%s: a value is outside what is allowed", doing), err)
	case serialization, deadlock, tooManyConnections:
		return fmt.Errorf("%w: %w", control.Errorf(control.CodeUnavailable, "%s: the database is busy: try again", doing), err)
	}
	switch pg.Code[:2] {
	case "08", "57": // connection, operator intervention
		return fmt.Errorf("%w: %w", control.Errorf(control.CodeUnavailable, "the database is not available: try again"), err)
	case insufficientResources:
		return fmt.Errorf("%w: %w", control.Errorf(control.CodeUnavailable, "the database has no room: free some, or give it more"), err)
	case "22": // data exception, such as a NUL in a text
		return fmt.Errorf("%w: %w", control.Errorf(control.CodeInvalid, "%s: a value can't be stored or looked for", doing), err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}
