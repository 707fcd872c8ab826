package store

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"sallyport/control"
)

// recordings is where Listen hears of teams that have new events. It is not told in the
// transactions that record them: Postgres lets only one of those that notify commit
// at a time, so their syncs could not be shared.
const recordings = "sallyport_recorded"

// announcePause is how long those that follow wait for each other's events, at most.
const announcePause = 50 * time.Millisecond

// recorder knows of the events that this process records: who waits for them, and
// whether they can be recorded at all.
type recorder struct {
	fresh chan struct{} // holds one while there is a team to announce

	mu       sync.Mutex
	teams    map[string]bool // with events that were not announced
	waiting  map[*Waiting]bool
	degraded error // why the last event was not recorded, nil if it was
}

func newRecorder() *recorder {
	return &recorder{fresh: make(chan struct{}, 1), teams: make(map[string]bool), waiting: make(map[*Waiting]bool)}
}

// Waiting is told of new events. It holds one word, however many there are.
type Waiting struct {
	C    <-chan struct{}
	c    chan struct{}
	team string // empty: any
	of   *recorder
}

// Await tells of events of a team that are recorded from now on, by any replica; of
// the installation's and every team's if teamID is "". It may tell too often, and while
// the database's notifications are away, or a replica dies, not at all: look at times
// without it. Close must follow.
func (s *Store) Await(teamID string) *Waiting {
	c := make(chan struct{}, 1)
	w := &Waiting{C: c, c: c, team: teamID, of: s.recorder}
	s.recorder.mu.Lock()
	defer s.recorder.mu.Unlock()
	s.recorder.waiting[w] = true
	return w
}

// Close ends the telling.
func (w *Waiting) Close() {
	w.of.mu.Lock()
	defer w.of.mu.Unlock()
	delete(w.of.waiting, w)
}

// wake tells those who wait for a team's events, or with "" all.
func (r *recorder) wake(team string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for w := range r.waiting {
		if team == "" || w.team == "" || w.team == team {
			select {
			case w.c <- struct{}{}:
			default:
			}
		}
	}
}

// announce tells all replicas, this one first, of what this one has recorded.
func (s *Store) announce(ctx context.Context) {
	r := s.recorder
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.fresh:
		}
		r.mu.Lock()
		teams := slices.Collect(maps.Keys(r.teams))
		clear(r.teams)
		r.mu.Unlock()
		for _, team := range teams {
			r.wake(team)
		}
		if _, err := s.pool.Exec(ctx, `select pg_notify('`+recordings+`', team) from unnest($1::text[]) team`, teams); err != nil && ctx.Err() == nil {
			s.log.Debug("other replicas not told of new events", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(announcePause):
		}
	}
}

// Degraded says why the last event that this process had to record was not recorded,
// so that what it was about was not done; nil once one was.
func (s *Store) Degraded() error {
	s.recorder.mu.Lock()
	defer s.recorder.mu.Unlock()
	return s.recorder.degraded
}

// recording is a transaction that knows what it adds to the audit.
type recording struct {
	pgx.Tx
	team string // whose chain it has added to
	err  error  // of adding
}

// note remembers that tx, if it is a recording, has added to a team's chain, or could not.
func note(tx pgx.Tx, team string, err error) {
	if r, ok := tx.(*recording); ok {
		r.team = team
		r.err = errors.Join(r.err, err)
	}
}

// ended takes what became of a transaction.
func (r *recorder) ended(tx *recording, err error) {
	failed := err != nil && (tx.err != nil || tx.team != "" && control.CodeOf(err) == control.CodeUnavailable || isFull(err))
	if err == nil && tx.team == "" || err != nil && (!failed || errors.Is(err, context.Canceled)) {
		return
	}
	r.mu.Lock()
	r.degraded = err
	if err == nil {
		r.teams[tx.team] = true
	}
	r.mu.Unlock()
	if err == nil {
		select {
		case r.fresh <- struct{}{}:
		default:
		}
	}
}

// isFull reports whether the database has no room.
func isFull(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code[:2] == insufficientResources && pg.Code != tooManyConnections
}
