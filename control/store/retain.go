package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

const (
	monthsAhead = 3 // that there are parts of audit_events for
	// retainLock is the advisory lock of whoever makes or drops parts: "audit" in ASCII.
	retainLock = 0x61_75_64_69_74
	// partPatience bounds how long others wait behind a part that is to be dropped,
	// while one of them still reads from it.
	partPatience = "5s"
)

// asOwner runs f in a transaction as the owner of the tables, one at a time in all replicas.
func (s *Store) asOwner(ctx context.Context, f func(pgx.Tx) error) error {
	conn, err := pgx.ConnectConfig(ctx, s.owner)
	if err != nil {
		return interpret(err, "reach the database", "")
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return interpret(pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock($1), set_config('lock_timeout', $2, true)`, retainLock, partPatience); err != nil {
			return err
		}
		return f(tx)
	}), "keep the audit's months", "")
}

// KeepMonths makes the parts of audit_events that will be needed next.
func (s *Store) KeepMonths(ctx context.Context) error {
	const missing = `select count(*) from generate_series(0, $1) n where to_regclass('audit_events_' || to_char(now() at time zone 'UTC' + n * interval '1 month', 'YYYY_MM')) is null`
	n, err := one(ctx, s.pool, "months", pgx.RowTo[int], missing, monthsAhead)
	if err != nil || n == 0 {
		return err
	}
	return s.asOwner(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `select audit_month(now() + n * interval '1 month') from generate_series(0, $1) n`, monthsAhead)
		return err
	})
}

// Retain drops the parts of audit_events, as a whole, of months that ended longer ago than
// keep, by the database's clock and by ours: one that is wrong removes nothing too early.
// It gives their names. Each team's chain
// goes on from a checkpoint, which an event of it tells of. It says in the log what is
// removed that one of receivers was not sent.
func (s *Store) Retain(ctx context.Context, keep time.Duration, receivers ...string) (dropped []string, err error) {
	for {
		var part string
		err := s.asOwner(ctx, func(tx pgx.Tx) (err error) {
			if part, err = oldestPart(ctx, tx, keep); err != nil || part == "" {
				return err
			}
			if err := s.mourn(ctx, tx, part, receivers); err != nil {
				return err
			}
			return dropPart(ctx, tx, part)
		})
		if err != nil || part == "" {
			return dropped, err
		}
		dropped = append(dropped, part)
	}
}

// oldestPart gives the part of the earliest month, if that ended longer ago than keep; "" for none.
func oldestPart(ctx context.Context, tx pgx.Tx, keep time.Duration) (string, error) {
	parts, err := all(ctx, tx, "months", pgx.RowTo[string], `
		select relname from (
			select c.relname, substring(pg_get_expr(c.relpartbound, c.oid) from 'TO \(''(.*)''\)')::timestamptz ends
			from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'audit_events'::regclass) p
		where ends <= least($1::timestamptz, now()) - $2::interval order by ends limit 1`, time.Now(), keep)
	if err != nil || len(parts) == 0 {
		return "", err
	}
	return parts[0], nil
}

// mourn says which events of a part were not forwarded.
func (s *Store) mourn(ctx context.Context, tx pgx.Tx, part string, receivers []string) error {
	if len(receivers) == 0 {
		return nil
	}
	if _, err := tx.Exec(ctx, `select set_config('sallyport.team', $1, true)`, installation); err != nil {
		return err
	}
	type missing struct {
		Receiver, Team string
		Events         int64
	}
	lost, err := all(ctx, tx, "receivers", pgx.RowToStructByPos[missing], `
		select f.receiver, coalesce(t.name, ''), count(*)
		from audit_forwards f join `+pgx.Identifier{part}.Sanitize()+` e on e.team_id = f.team_id and e.position > f.position
		left join teams t on t.id = f.team_id where f.receiver = any($1) group by 1, 2`, receivers)
	for _, l := range lost {
		s.log.Error("audit events are removed for their age that were not forwarded", "receiver", l.Receiver, "team", l.Team, "events", l.Events, "month", part)
	}
	return err
}

// dropPart removes a part, after it has put down where the chains go on.
func dropPart(ctx context.Context, tx pgx.Tx, part string) error {
	name := pgx.Identifier{part}.Sanitize()
	type last struct {
		TeamID   string
		Position int64
		Hash     []byte
	}
	ends, err := all(ctx, tx, "events", pgx.RowToStructByPos[last],
		`select distinct on (team_id) team_id, position, hash from `+name+` order by team_id, position desc`)
	if err != nil {
		return err
	}
	for _, l := range ends {
		if _, err := tx.Exec(ctx, `select set_config('sallyport.team', $1, true)`, l.TeamID); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `insert into audit_checkpoints (team_id, position, hash) values ($1, $2, $3)`, l.TeamID, l.Position, l.Hash); err != nil {
			return interpret(err, "put down a checkpoint", "such team")
		}
		event := control.Event{Kind: retained, Actor: "system", Detail: link{l.Position, l.Hash}.String()}
		if err := appendEvent(ctx, tx, l.TeamID, record{Event: event}); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, `alter table audit_events detach partition `+name); err != nil {
		return fmt.Errorf("detach %s: %w", part, err)
	}
	_, err = tx.Exec(ctx, `drop table `+name)
	return err
}
