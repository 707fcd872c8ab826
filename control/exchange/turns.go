package exchange

import (
	"context"
	"sync"

	"sallyport/control"
)

const (
	maxExchanges = 32 // under way at once
	maxOfTeam    = 8
	// maxRotating is how many of a team's may use secrets up: each holds a connection
	// to the database.
	maxRotating = 2
)

// turns bounds the exchanges that are under way at once, of all teams together and of
// each: a team whose servers are slow, or are made to be, keeps no other team's waiting.
type turns struct {
	all chan struct{}

	mu    sync.Mutex
	lines map[line]*places
}

// line is a team's exchanges of one sort, which wait for each other.
type line struct {
	team    string
	rotates bool
}

type places struct {
	taken chan struct{}
	users int // under way or waiting; guarded by turns.mu
}

func newTurns() *turns {
	return &turns{all: make(chan struct{}, maxExchanges), lines: make(map[line]*places)}
}

var errNoTurn = control.Errorf(control.CodeExchange, "too many exchanges are under way: try again")

// take waits for a turn, which end ends.
func (t *turns) take(ctx context.Context, of line) (end func(), err error) {
	p := t.join(of)
	select {
	case p.taken <- struct{}{}:
	case <-ctx.Done():
		t.part(of, p)
		return nil, errNoTurn
	}
	leave := func() {
		<-p.taken
		t.part(of, p)
	}
	select {
	case t.all <- struct{}{}:
	case <-ctx.Done():
		leave()
		return nil, errNoTurn
	}
	return func() {
		<-t.all
		leave()
	}, nil
}

func (t *turns) join(of line) *places {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.lines[of]
	if p == nil {
		most := maxOfTeam
		if of.rotates {
			most = maxRotating
		}
		p = &places{taken: make(chan struct{}, most)}
		t.lines[of] = p
	}
	p.users++
	return p
}

func (t *turns) part(of line, p *places) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p.users--; p.users == 0 {
		delete(t.lines, of)
	}
}
