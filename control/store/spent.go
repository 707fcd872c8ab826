package store

import (
	"sort"
	"time"

	"sallyport/control"
)

// spent is what a team has used of what is counted by time, and may use. It is kept in
// the row of the chain's head, which is locked and written with every event anyway.
type spent struct {
	events, mayEvents   int64 // this day of UTC
	fetches, mayFetches int64 // this minute
}

// Of a row h of audit_heads: what was used, and what the writing of events adds to it,
// with $2 as its new position and $4 fetches among them.
const (
	today       = `(clock_timestamp() at time zone 'utc')::date`
	thisMinute  = `date_trunc('minute', clock_timestamp())`
	eventsToday = `case when h.day = ` + today + ` then h.position - h.day_began else 0 end`
	fetchesNow  = `case when h.minute = ` + thisMinute + ` then h.fetches else 0 end`
	spentRows   = eventsToday + `, ` + fetchesNow + `, coalesce(q.events, $2), coalesce(q.fetches, $3)`
	spend       = `day_began = case when h.day = ` + today + ` then h.day_began else h.position end, day = ` + today + `,
		fetches = ` + fetchesNow + ` + $4, minute = ` + thisMinute
)

// room is CodeQuota where records are more than the team may have. What people do, and
// what is told of a sandbox but its use of credentials, always has room.
func (h head) room(records []record) error {
	var events int64
	for _, r := range records {
		if r.Kind == "request" || r.Kind == kindGrant || r.Kind == "allot" {
			events++
		}
	}
	fetches := fetchesOf(records)
	switch {
	case events > 0 && h.events+events > h.mayEvents:
		midnight := h.Now.UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)
		return control.Errorf(control.CodeQuota, "the team has %d audit events today and may have %d: there is room again at %s, or when an owner of every team allows more (sallyport quota set --events N)",
			h.events, h.mayEvents, midnight.Format(time.RFC3339))
	case fetches > 0 && h.fetches+fetches > h.mayFetches:
		return control.Errorf(control.CodeQuota, "the team has fetched %d secrets in this minute and may fetch %d: try again in the next, or ask an owner of every team for more (sallyport quota set --fetches N)", h.fetches, h.mayFetches)
	}
	return nil
}

// fit gives how many of records, each of its own and in their order, the team has room
// for, and why it has none for the next.
func (h head) fit(records []record) (n int, err error) {
	n = sort.Search(len(records), func(i int) bool { return h.room(records[:i+1]) != nil })
	if n < len(records) {
		h.events, h.fetches = h.events+int64(n), h.fetches+fetchesOf(records[:n])
		err = h.room(records[n : n+1])
	}
	return n, err
}

// kindGrant is the event of a fetch.
const kindGrant = "grant"

func fetchesOf(records []record) (n int64) {
	for _, r := range records {
		if r.Kind == kindGrant {
			n++
		}
	}
	return n
}
