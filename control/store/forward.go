package store

import (
	"context"
	"hash/fnv"
	"time"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

// forwardIdle is when Postgres ends the connection of a forwarder that says nothing, so
// that a process that hangs keeps no other from going on. It is longer than a forwarder waits for
// its receiver.
const forwardIdle = "120s"

// Forward is one receiver's place in the audit, held by one process at a time: what
// holds it is a connection, and nothing is read or noted without it.
type Forward struct {
	conn     *pgx.Conn
	receiver string
	teams    []string // names; none: all, and the installation
	recorder *recorder
}

// Refused is the kind of an event that tells of those that a receiver refused for good.
const Refused = "audit.refused"

// Forward takes a receiver's place. It gives nil while another process has it.
func (s *Store) Forward(ctx context.Context, receiver string, teams []string) (*Forward, error) {
	acquired, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, interpret(err, "reach the database", "")
	}
	f := &Forward{conn: acquired.Hijack(), receiver: receiver, teams: teams, recorder: s.recorder}
	hash := fnv.New64a()
	hash.Write([]byte("sallyport audit forward " + receiver))
	var taken bool
	_, err = f.conn.Exec(ctx, `select set_config('idle_session_timeout', $1, false)`, forwardIdle)
	if err == nil {
		err = f.conn.QueryRow(ctx, `select pg_try_advisory_lock($1)`, int64(hash.Sum64())).Scan(&taken)
	}
	if err != nil || !taken {
		f.Close(ctx)
		return nil, interpret(err, "take the receiver's place", "")
	}
	return f, nil
}

// Close gives the place up.
func (f *Forward) Close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	f.conn.Close(ctx)
}

// Behind is a chain with events that a receiver has not accepted.
type Behind struct {
	TeamID   string
	Team     string // name; empty: the installation
	Position int64  // of the last event accepted
	End      int64  // of the last recorded
}

// Behind gives the chains with events that were not accepted, those that waited longest
// first. A receiver that is new begins with the oldest event that is kept.
func (f *Forward) Behind(ctx context.Context) ([]Behind, error) {
	const chains = `
		from audit_heads h left join teams t on t.id = h.team_id left join audit_forwards f on f.team_id = h.team_id and f.receiver = $1
		where (cardinality($2::text[]) = 0 or t.name = any($2)) and h.position > 0 `
	var behind []Behind
	err := f.within(ctx, installation, func(tx pgx.Tx) error {
		fresh, err := all(ctx, tx, "chains", pgx.RowTo[string], `select h.team_id::text `+chains+`and f.position is null`, f.receiver, f.names())
		if err != nil {
			return err
		}
		for _, team := range fresh {
			if err := f.begin(ctx, tx, team); err != nil {
				return err
			}
		}
		behind, err = all(ctx, tx, "chains", pgx.RowToStructByPos[Behind], `
			select h.team_id, coalesce(t.name, ''), f.position, h.position `+chains+`and h.position > f.position
			order by f.forwarded_at, h.team_id`, f.receiver, f.names())
		return err
	})
	return behind, err
}

func (f *Forward) names() []string { return append([]string{}, f.teams...) }

// begin puts a chain down that the receiver has had nothing of, before the oldest event that is kept.
func (f *Forward) begin(ctx context.Context, tx pgx.Tx, team string) error {
	const scope = `select set_config('sallyport.team', $1, true)`
	if _, err := tx.Exec(ctx, scope, team); err != nil {
		return interpret(err, "see the chain", "such team")
	}
	oldest, err := one(ctx, tx, "the oldest event", pgx.RowTo[int64], `select coalesce(min(position), 1) from audit_log where team_id = $1`, team)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, scope, installation); err != nil {
		return interpret(err, "see the receivers", "such team")
	}
	_, err = tx.Exec(ctx, `insert into audit_forwards (receiver, team_id, position) values ($1, $2, $3)`, f.receiver, team, oldest-1)
	return interpret(err, "put down the receiver", "such team")
}

// Events gives those of a chain that come next. The first is not the one after
// b.Position where retention has removed some.
func (f *Forward) Events(ctx context.Context, b Behind, limit int) (events []ChainedEvent, err error) {
	err = f.within(ctx, b.TeamID, func(tx pgx.Tx) error {
		records, err := all(ctx, tx, "events", scanRecord, eventRows+`
			where team_id = $1 and position > $2 and position <= $3 order by position limit $4`, b.TeamID, b.Position, b.End, limit)
		for _, r := range records {
			events = append(events, ChainedEvent{r.Event, r.CreatedAt, r.Hash})
		}
		return err
	})
	return events, err
}

// Accepted notes how far a receiver has got in a team's chain.
func (f *Forward) Accepted(ctx context.Context, teamID string, position int64) error {
	return f.within(ctx, installation, func(tx pgx.Tx) error { return f.move(ctx, tx, teamID, position) })
}

// Refused is Accepted where some up to position were refused for good, which an event of
// the team's chain tells: detail says what. Neither is there without the other.
func (f *Forward) Refused(ctx context.Context, teamID string, position int64, detail string) error {
	return f.within(ctx, installation, func(tx pgx.Tx) error {
		if err := f.move(ctx, tx, teamID, position); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `select set_config('sallyport.team', $1, true)`, teamID); err != nil {
			return interpret(err, "see the chain", "such team")
		}
		return appendEvent(ctx, tx, teamID, record{Event: control.Event{Kind: Refused, Actor: "system", Detail: detail}})
	})
}

func (f *Forward) move(ctx context.Context, tx pgx.Tx, teamID string, position int64) error {
	tag, err := tx.Exec(ctx, `update audit_forwards set position = $3, forwarded_at = now() where receiver = $1 and team_id = $2`, f.receiver, teamID, position)
	return must(tag, err, "note what was forwarded", "such receiver")
}

func (f *Forward) within(ctx context.Context, team string, do func(pgx.Tx) error) error {
	var recorded recording
	err := pgx.BeginTxFunc(ctx, f.conn, pgx.TxOptions{BeginQuery: "begin; set local sallyport.team = '" + team + "'"}, func(tx pgx.Tx) error {
		recorded.Tx = tx
		return do(&recorded)
	})
	err = interpret(err, "forward", "such thing")
	f.recorder.ended(&recorded, err)
	return err
}
