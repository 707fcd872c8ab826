package external

import (
	"context"
	"slices"
	"sync"

	"sallyport/control"
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

// turns are those of each source, of each team, and of all.
type turns struct {
	mu   sync.Mutex
	byID map[string]*turn // of a source or team; "": of all
}

type turn struct {
	room  chan struct{}
	users int
}

func newTurns() *turns { return &turns{byID: map[string]*turn{}} }

// take waits for a turn at a source of a team; done ends it. Who waits for a source is in
// nobody else's way.
func (t *turns) take(ctx context.Context, team, source string) (done func(), err error) {
	var had []func()
	done = func() {
		for _, end := range slices.Backward(had) {
			end()
		}
	}
	for _, line := range []struct {
		id   string
		most int
	}{{source, atOnce}, {team, ofTeam}, {"", ofAll}} {
		end, err := t.wait(ctx, line.id, line.most)
		if err != nil {
			done()
			return nil, err
		}
		had = append(had, end)
	}
	return done, nil
}

// wait waits until fewer than most have a turn by that id.
func (t *turns) wait(ctx context.Context, id string, most int) (end func(), err error) {
	t.mu.Lock()
	mine := t.byID[id]
	if mine == nil {
		mine = &turn{room: make(chan struct{}, most)}
		t.byID[id] = mine
	}
	mine.users++
	t.mu.Unlock()
	leave := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if mine.users--; mine.users == 0 {
			delete(t.byID, id)
		}
	}
	select {
	case mine.room <- struct{}{}:
		return func() { <-mine.room; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, control.Errorf(control.CodeExchange, "answers slowly, and others wait for it: try again")
	}
}
