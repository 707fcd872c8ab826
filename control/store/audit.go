package store

import (
	"context"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

// Events lists newest first. An event's ID counts those of its team. teamID "" is the installation itself.
func (s *Store) Events(ctx context.Context, teamID string, page Page) (events []control.Event, next string, err error) {
	before := int64(math.MaxInt64)
	if page.After != "" {
		if before, err = strconv.ParseInt(page.After, 10, 64); err != nil {
			return nil, "", errCursor
		}
	}
	records, err := all(ctx, s.in(orInstallation(teamID)), "events", scanRecord, eventRows+`where team_id = $1 and position < $2 order by position desc limit $3`,
		orInstallation(teamID), before, page.limit())
	if err != nil {
		return nil, "", err
	}
	events = make([]control.Event, len(records))
	for i, r := range records {
		events[i] = r.Event
	}
	events, next = cut(page, events, func(e control.Event) string { return strconv.FormatInt(e.ID, 10) })
	return events, next, nil
}

func orInstallation(teamID string) string {
	if teamID == "" {
		return installation
	}
	return teamID
}

// maxText bounds a text of an event, in bytes.
const maxText = 8 << 10

// clean makes a text from outside one that Postgres can keep.
func clean(s string) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "…"
	}
	return s
}

// appendEvent puts an event at the end of the team's chain.
func appendEvent(ctx context.Context, tx pgx.Tx, teamID string, r record) error {
	h, err := lockHead(ctx, tx, teamID)
	if err != nil {
		return err
	}
	if err := claim(ctx, tx); err != nil {
		return err
	}
	if err := h.room([]record{r}); err != nil {
		return err
	}
	return h.append(ctx, tx, []record{r})
}

// tip is the end of a team's chain.
type tip struct {
	TeamID   string
	Position int64
	Hash     []byte
	Now      time.Time
}

// head is a tip that is locked, with what the team has used and may use.
type head struct {
	tip
	spent
}

// headRows is read by scanHead.
const headRows = `
	select h.team_id, h.position, h.hash, clock_timestamp(), ` + spentRows + `
	from audit_heads h left join quotas q on q.team_id = h.team_id where h.team_id = $1`

func lockHead(ctx context.Context, tx pgx.Tx, teamID string) (head, error) {
	return one(ctx, tx, "such team", scanHead, headRows+` for update of h`, teamID, control.UsualQuota.Events, control.UsualQuota.Fetches)
}

func scanHead(row pgx.CollectableRow) (h head, err error) {
	return h, row.Scan(&h.TeamID, &h.Position, &h.Hash, &h.Now, &h.events, &h.fetches, &h.mayEvents, &h.mayFetches)
}

// append puts records at the end of the chain, which tx has locked. It fills in
// what places them there.
func (h head) append(ctx context.Context, tx pgx.Tx, records []record) (err error) {
	if len(records) == 0 {
		return nil
	}
	defer func() { note(tx, h.TeamID, err) }()
	rows := newCopyRows()
	var digest digester
	for i := range records {
		r := &records[i]
		r.clean()
		r.TeamID, r.ID, r.CreatedAt, r.Previous = h.TeamID, h.Position+1, h.Now, h.Hash
		if r.Time = r.Time.UTC().Truncate(time.Microsecond); r.Time.IsZero() {
			r.Time = r.CreatedAt
		}
		r.Hash = digest.of(r)
		h.Position, h.Hash = r.ID, r.Hash
		rows.add(r)
	}
	_, err = tx.Conn().PgConn().CopyFrom(ctx, rows.end(), copyEvents)
	if err != nil {
		return interpret(err, "store events", "such team")
	}
	_, err = tx.Exec(ctx, `update audit_heads h set position = $2, hash = $3, `+spend+` where team_id = $1`, h.TeamID, h.Position, h.Hash, fetchesOf(records))
	return interpret(err, "store events", "such team")
}
