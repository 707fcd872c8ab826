package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

// ChainedEvent is an event with its place in its team's chain.
type ChainedEvent struct {
	control.Event
	RecordedAt time.Time `json:"recorded_at"` // by the database's clock
	Hash       []byte    `json:"-"`
}

// EventFilter says which events, in the order in which they were recorded.
type EventFilter struct {
	After        int64     // ID; -1 for none but those to come
	Since, Until time.Time // recorded then, Until not included; zero for any
	Agent        string    // empty: any, as below
	Host         string
	Decision     string
	Limit        int // as Page's
}

// seeks reports whether the filter leaves events out.
func (f EventFilter) seeks() bool {
	return f.Agent != "" || f.Host != "" || f.Decision != "" || !f.Since.IsZero() || !f.Until.IsZero()
}

// Follow gives a team's events after a place, the oldest first, and where to go on
// from: no event is ever recorded before that. teamID "" is the installation itself.
func (s *Store) Follow(ctx context.Context, teamID string, f EventFilter) (events []ChainedEvent, next int64, err error) {
	team := orInstallation(teamID)
	if f.seeks() { // which may read the whole chain
		done, err := s.read(ctx)
		if err != nil {
			return nil, 0, err
		}
		defer done()
	}
	err = s.inTx(ctx, readOnly, team, func(tx pgx.Tx) error {
		end, err := one(ctx, tx, "such team", pgx.RowTo[int64], `select position from audit_heads where team_id = $1`, team)
		if err != nil {
			return err
		}
		next = end
		if f.After < 0 || f.After >= end {
			return nil
		}
		limit := Page{Limit: f.Limit}.size()
		records, err := all(ctx, tx, "events", scanRecord, eventRows+`
			where team_id = $1 and position > $2 and position <= $3
			and ($4::timestamptz is null or created_at >= $4) and ($5::timestamptz is null or created_at < $5)
			and ($6 = '' or agent = $6) and ($7 = '' or host = $7) and ($8 = '' or decision = $8)
			order by position limit $9`,
			team, f.After, end, orNull(f.Since), orNull(f.Until), f.Agent, f.Host, f.Decision, limit)
		if err != nil {
			return err
		}
		for _, r := range records {
			events = append(events, ChainedEvent{r.Event, r.CreatedAt, r.Hash})
		}
		if len(records) == limit {
			next = records[limit-1].ID
		}
		return nil
	})
	return events, next, err
}
