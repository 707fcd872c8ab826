package agentapi

import (
	"context"
	"sync"
	"time"

	"sallyport/control/api"
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
	fleet *reading
	err   error
}

// reading is a fleet with what its sandboxes are sent.
type reading struct {
	*store.Fleet
	mu       sync.Mutex
	messages map[string]*api.WatchResponse // by store.Snapshot.Shared
}

// pushed is a snapshot, and the message that says it.
type pushed struct {
	store.Snapshot
	message *api.WatchResponse // shared with others: it must not be changed
	err     error
}

func newReading(f *store.Fleet) *reading {
	return &reading{Fleet: f, messages: make(map[string]*api.WatchResponse)}
}

// of gives what a sandbox is sent, false if it is none of the fleet's. message makes it.
func (r *reading) of(sandbox string, message func(store.Snapshot) *api.WatchResponse) (pushed, bool) {
	snapshot, found := r.Snapshot(sandbox)
	if !found || snapshot.Shared == "" {
		return pushed{Snapshot: snapshot, message: message(snapshot)}, found
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.messages[snapshot.Shared]
	if m == nil {
		m = message(snapshot)
		r.messages[snapshot.Shared] = m
	}
	return pushed{Snapshot: snapshot, message: m}, true
}

func newFleets(s *store.Store, replica string) *fleets {
	return &fleets{store: s, replica: replica, teams: make(map[string]*fleetRead)}
}

// after gives a fleet that was read after a change had been announced.
func (f *fleets) after(ctx context.Context, team string, announced time.Time) (*reading, error) {
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
	fleet, err := f.store.Fleet(ctx, team, f.replica)
	read.fleet, read.err = newReading(fleet), err
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
