package external

import (
	"context"
	"sync"

	"sallyport/control"
	"sallyport/control/turns"
)

const (
	// atOnce is how many read of one source at the same time. One that hangs holds up
	// nobody but those who wait for it.
	atOnce = 4
	// ofTeam is how many read of all sources of a team, so that no team fills the memory,
	// or takes every connection to a store that others have too; ofAll of all teams.
	ofTeam = 12
	ofAll  = 64
)

var (
	errSlow   = control.Errorf(control.CodeExchange, "answers slowly, and others wait for it: try again")
	errNoTurn = control.Errorf(control.CodeExchange, "was not asked, as too many readings are under way: try again")
)

// lines are those who read: of each source, and of the teams.
type lines struct {
	teams *turns.Turns

	mu      sync.Mutex
	sources map[string]*line // by id
}

// line is of a source that is read, or waited for.
type line struct {
	room  chan struct{}
	users int
}

func newLines() *lines {
	return &lines{teams: turns.New(ofAll, ofTeam), sources: map[string]*line{}}
}

// take waits for a turn at a source of a team; done ends it. Who waits for a source is in
// nobody else's way.
func (l *lines) take(ctx context.Context, team, source string) (done func(), err error) {
	leave, ok := l.wait(ctx, source)
	if !ok {
		return nil, errSlow
	}
	end, ok := l.teams.Take(ctx, team)
	if !ok {
		leave()
		return nil, errNoTurn
	}
	return func() { end(); leave() }, nil
}

// wait waits until fewer than atOnce read of a source.
func (l *lines) wait(ctx context.Context, source string) (end func(), ok bool) {
	l.mu.Lock()
	mine := l.sources[source]
	if mine == nil {
		mine = &line{room: make(chan struct{}, atOnce)}
		l.sources[source] = mine
	}
	mine.users++
	l.mu.Unlock()
	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if mine.users--; mine.users == 0 {
			delete(l.sources, source)
		}
	}
	select {
	case mine.room <- struct{}{}:
		return func() { <-mine.room; leave() }, true
	case <-ctx.Done():
		leave()
		return nil, false
	}
}
