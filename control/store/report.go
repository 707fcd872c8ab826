package store

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

const (
	// lateFor and lateEvents bound what a sandbox may report after it was revoked
	// or locked: what was under way, and as much as a sidecar's queue holds.
	lateFor    = time.Minute
	lateEvents = 10_000
	// clockSkew is how far a sidecar's clock may be from the database's.
	clockSkew = time.Minute
)

// Report is one event of a sandbox. The store fills in the event's kind, actor,
// agent and sandbox, and the name of its credential if the sandbox has to do
// with it. It keeps its time within the sandbox's life.
type Report struct {
	Sequence     uint64 // from 1, counted by the sidecar
	CredentialID string // empty: none
	Event        control.Event
}

// AppendEvents stores a sandbox's events, each sequence number once, and gives
// the highest sequence number of the batch; of an empty batch, the highest ever
// stored, so that a sidecar can go on counting from there. session is the text of its newest. A number used again
// for another request is CodeConflict. It is CodeForbidden once the sandbox was
// cut off longer than lateFor ago, or has reported too much since.
func (s *Store) AppendEvents(ctx context.Context, teamID, sandboxID, session string, reports []Report) (acknowledged uint64, err error) {
	select {
	case s.reports <- struct{}{}:
		defer func() { <-s.reports }()
	case <-ctx.Done():
		return 0, interpret(ctx.Err(), "wait to store events", "")
	}
	for _, r := range reports {
		if r.Sequence == 0 || r.Sequence > math.MaxInt64 {
			return 0, control.Errorf(control.CodeInvalid, "an event's sequence number is %d: count from 1", r.Sequence)
		}
		acknowledged = max(acknowledged, r.Sequence)
	}
	if len(reports) == 0 {
		return s.highestSequence(ctx, teamID, sandboxID, session)
	}
	return acknowledged, s.appendReports(ctx, teamID, sandboxID, session, reports)
}

// appendReports stores reports in one transaction, but for those that are stored already.
func (s *Store) appendReports(ctx context.Context, teamID, sandboxID, session string, reports []Report) error {
	return s.inTx(ctx, "begin", teamID, func(tx pgx.Tx) error {
		who, err := reporterOf(ctx, tx, teamID, sandboxID, session)
		if err != nil {
			return err
		}
		names, err := credentialNames(ctx, tx, teamID, sandboxID, reports)
		if err != nil {
			return err
		}
		h, err := lockHead(ctx, tx, teamID) // so that two copies of a batch take turns
		if err != nil {
			return err
		}
		known, err := knownRequests(ctx, tx, sandboxID, reports)
		if err != nil {
			return err
		}
		fresh, err := who.records(sandboxID, reports, known, names)
		if err != nil {
			return err
		}
		if !who.Ended { // what is told late is bounded by count, and would be lost
			if err := h.room(fresh); err != nil {
				return err
			}
		}
		if err := who.count(ctx, tx, sandboxID, len(fresh)); err != nil {
			return err
		}
		return h.append(ctx, tx, fresh)
	})
}

// reporter is what bounds the reports of a sandbox.
type reporter struct {
	Agent    string
	Enrolled time.Time
	Now      time.Time // by the database's clock
	Ended    bool
	Late     int64 // events reported since
	Sessions Sessions
}

// reporterOf is CodeForbidden for a sandbox that may not report any more, and
// CodeUnavailable for whoever does not hold its stream. Of one that has ended either
// of the last two sessions may report, since the last may be what ended it. Its row
// is locked, so that no two batches share what is left to it.
func reporterOf(ctx context.Context, tx pgx.Tx, teamID, sandboxID, session string) (reporter, error) {
	var who reporter
	var tooLate bool
	const query = `
		select a.name, coalesce(s.enrolled_at, s.created_at), now(), s.state <> 'enrolled', s.late_events,
			s.session, s.previous_session,
			s.state <> 'enrolled' and coalesce(s.ended_at, '-infinity') < now() - $3::interval
		from sandboxes s join agents a on a.id = s.agent_id where s.team_id = $1 and s.id = $2`
	for _, lock := range []string{"", " for no key update of s"} {
		err := tx.QueryRow(ctx, query+lock, teamID, sandboxID, lateFor).Scan(&who.Agent, &who.Enrolled, &who.Now, &who.Ended, &who.Late, &who.Sessions.Current, &who.Sessions.Previous, &tooLate)
		switch {
		case err != nil:
			return who, interpret(err, "read the sandbox", "such sandbox")
		case tooLate:
			return who, errNotEnrolled
		case !who.Ended:
			_, err := who.Sessions.Check(session)
			return who, err
		}
	}
	if strange, _ := who.Sessions.Check(session); strange {
		return who, errNotEnrolled
	}
	return who, nil
}

// within is the nearest to at that can be: a sidecar's clock, or the sidecar,
// may be wrong.
func (r reporter) within(at time.Time) time.Time {
	earliest, latest := r.Enrolled.Add(-clockSkew), r.Now.Add(clockSkew)
	switch {
	case at.IsZero():
		return r.Now
	case at.Before(earliest):
		return earliest
	case at.After(latest):
		return latest
	}
	return at
}

// records are the reports but for those known, whose request ids are given by
// sequence number. names are those of credentials by their ids.
func (r reporter) records(sandboxID string, reports []Report, known map[int64]string, names map[string]string) ([]record, error) {
	fresh := make([]record, 0, len(reports))
	actor := "sandbox:" + sandboxID
	for _, report := range reports {
		e, sequence := report.Event, int64(report.Sequence)
		if request, found := known[sequence]; found {
			if request != clean(e.RequestID) {
				return nil, control.Errorf(control.CodeConflict, "event %d of this sandbox was reported before, of another request: count on from the last acknowledged number", sequence)
			}
			continue
		}
		known[sequence] = clean(e.RequestID)
		e.Kind, e.Actor, e.Agent, e.Sandbox = "request", actor, r.Agent, sandboxID
		e.Credential, e.Time = names[report.CredentialID], r.within(e.Time)
		fresh = append(fresh, record{Event: e, Sequence: sequence})
	}
	return fresh, nil
}

// count takes n events from what a sandbox that has ended may still report.
func (r reporter) count(ctx context.Context, tx pgx.Tx, sandboxID string, n int) error {
	if !r.Ended || n == 0 {
		return nil
	}
	if r.Late+int64(n) > lateEvents {
		return errNotEnrolled
	}
	_, err := tx.Exec(ctx, `update sandboxes set late_events = late_events + $2 where id = $1`, sandboxID, n)
	return interpret(err, "count late events", "such sandbox")
}

func (s *Store) highestSequence(ctx context.Context, teamID, sandboxID, session string) (highest uint64, err error) {
	return highest, s.inTx(ctx, "begin", teamID, func(tx pgx.Tx) error {
		if _, err := reporterOf(ctx, tx, teamID, sandboxID, session); err != nil {
			return err
		}
		n, err := one(ctx, tx, "such sandbox", pgx.RowTo[int64],
			`select coalesce(max(sequence), 0) from audit_log where team_id = $1 and sandbox = $2 and sequence > 0`, teamID, sandboxID)
		highest = uint64(n)
		return err
	})
}

// knownRequests gives the request ids of those reports that are stored, by
// sequence number. A batch is seldom sent twice, so whether any is comes first.
func knownRequests(ctx context.Context, tx pgx.Tx, sandboxID string, reports []Report) (map[int64]string, error) {
	known := make(map[int64]string)
	sequences := make([]int64, len(reports))
	for i, r := range reports {
		sequences[i] = int64(r.Sequence)
	}
	// Planned anew each time: a plan made when there were few events would read all of them.
	some, err := one(ctx, tx, "such events", pgx.RowTo[bool], `
		select exists (select from audit_log where sandbox = $1 and sequence > 0 and sequence between $2 and $3)`,
		pgx.QueryExecModeDescribeExec, sandboxID, slices.Min(sequences), slices.Max(sequences))
	if err != nil || !some {
		return known, err
	}
	rows, err := tx.Query(ctx, `select sequence, request_id from audit_log where sandbox = $1 and sequence > 0 and sequence = any($2)`,
		pgx.QueryExecModeDescribeExec, sandboxID, sequences)
	if err != nil {
		return nil, interpret(err, "read the sandbox's events", "such sandbox")
	}
	var sequence int64
	var request string
	_, err = pgx.ForEachRow(rows, []any{&sequence, &request}, func() error {
		known[sequence] = request
		return nil
	})
	return known, interpret(err, "read the sandbox's events", "such sandbox")
}

// credentialNames gives VAULT/NAME for each id of a credential that is pinned to
// the sandbox's agent, or that the sandbox holds a lease of. A sidecar can't make
// it look as if it had used any other.
func credentialNames(ctx context.Context, tx pgx.Tx, teamID, sandboxID string, reports []Report) (map[string]string, error) {
	asked := make(map[string]bool)
	var ids []uuid.UUID
	for _, r := range reports {
		if r.CredentialID == "" || asked[r.CredentialID] {
			continue
		}
		asked[r.CredentialID] = true
		if id, err := uuid.Parse(r.CredentialID); err == nil {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	rows, err := tx.Query(ctx, `
		select c.id::text, v.name || '/' || c.name from credentials c join vaults v on v.id = c.vault_id
		where c.team_id = $1 and c.id = any($3) and (c.sandbox_id is null or c.sandbox_id = $2) and (
			exists (select from pins p join sandboxes s on s.agent_id = p.agent_id where p.vault_id = c.vault_id and s.id = $2)
			or exists (select from leases l where l.credential_id = c.id and l.sandbox_id = $2))`, teamID, sandboxID, ids)
	if err != nil {
		return nil, interpret(err, "read the credentials' names", "such team")
	}
	names := make(map[string]string)
	var id, name string
	_, err = pgx.ForEachRow(rows, []any{&id, &name}, func() error {
		names[id] = name
		return nil
	})
	return names, interpret(err, "read the credentials' names", "such team")
}
