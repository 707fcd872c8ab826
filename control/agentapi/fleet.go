package agentapi

import (
	"context"
	"sync"
	"time"

	"sallyport/control/store"
)

const (
	// fleetTimeout bounds the reading of a fleet, which outlives the stream that began it.
	fleetTimeout = 30 * time.Second
	// fleetKept is how long it is kept for streams that come to it late.
	fleetKept = 10 * time.Second
)

// fleets reads a team's fleet once for all of its streams that were told of the
// same change, instead of once for each.
type fleets struct {
	store   *store.Store
	replica string

	mu    sync.Mutex
	teams map[string]*fleetRead
}

// fleetRead is one reading.
type fleetRead struct {
	begun time.Time
	done  chan struct{}
	fleet *store.Fleet
	err   error
}

func newFleets(s *store.Store, replica string) *fleets {
	return &fleets{store: s, replica: replica, teams: make(map[string]*fleetRead)}
}

// after gives a fleet that was read after a change had been announced.
func (f *fleets) after(ctx context.Context, team string, announced time.Time) (*store.Fleet, error) {
	f.mu.Lock()
	read := f.teams[team]
	mine := read == nil || !read.begun.After(announced)
	if mine {
		read = &fleetRead{begun: time.Now(), done: make(chan struct{})}
		f.teams[team] = read
	}
	f.mu.Unlock()
	if !mine {
		select {
		case <-read.done:
			return read.fleet, read.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fleetTimeout)
	defer cancel()
	read.fleet, read.err = f.store.Fleet(ctx, team, f.replica)
	close(read.done)
	time.AfterFunc(fleetKept, func() { f.forget(team, read) })
	return read.fleet, read.err
}

func (f *fleets) forget(team string, read *fleetRead) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.teams[team] == read {
		delete(f.teams, team)
	}
}
