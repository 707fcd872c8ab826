// Package turns shares places that are few and may be held for long, such as
// connections that wait for other servers, among teams: none keeps another's waiting.
//
// A team's next place is given while it has less than half as many as are free, so the
// more teams take, the less each gets, and the last are for teams that have none
// (dynamic thresholds: Choudhury and Hahne, 1998). Where all are taken, the next goes
// to the team that has the fewest, of those to the one that was served longest ago.
package turns

import (
	"cmp"
	"context"
	"slices"
	"sync"
)

// Turns are places. Safe for concurrent use.
type Turns struct {
	most int // of a team at once

	mu     sync.Mutex
	free   int
	served uint64 // how often a place was given
	teams  map[string]*line
}

// line is a team that has places or waits for some.
type line struct {
	held    int
	served  uint64          // Turns.served when it was given one last
	waiting []chan struct{} // closed when its turn comes
}

// New makes so many places, of which a team has at most so many at once.
func New(places, most int) *Turns {
	return &Turns{most: most, free: places, teams: make(map[string]*line)}
}

// Take waits for a place, which end gives back. ok is false if ctx ended before.
func (t *Turns) Take(ctx context.Context, team string) (end func(), ok bool) {
	turn := make(chan struct{})
	t.mu.Lock()
	l := t.teams[team]
	if l == nil {
		l = &line{}
		t.teams[team] = l
	}
	l.waiting = append(l.waiting, turn)
	t.give()
	t.mu.Unlock()
	end = sync.OnceFunc(func() { t.giveBack(team) })
	select {
	case <-turn:
		return end, true
	case <-ctx.Done():
	}
	t.mu.Lock()
	i := slices.Index(l.waiting, turn)
	if i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
		t.tidy(team, l)
	}
	t.mu.Unlock()
	if i < 0 { // it came just now
		end()
	}
	return nil, false
}

func (t *Turns) giveBack(team string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.free++
	l := t.teams[team]
	l.held--
	t.give()
	t.tidy(team, l)
}

// give gives away all places that may be.
func (t *Turns) give() {
	for t.free > 0 {
		var next *line
		for _, l := range t.teams {
			if t.may(l) && (next == nil || before(l, next)) {
				next = l
			}
		}
		if next == nil {
			return
		}
		t.free--
		t.served++
		next.held, next.served = next.held+1, t.served
		close(next.waiting[0])
		next.waiting = next.waiting[1:]
	}
}

func (t *Turns) may(l *line) bool {
	return len(l.waiting) > 0 && l.held < t.most && (l.held == 0 || 2*l.held < t.free)
}

func before(a, b *line) bool {
	return cmp.Or(cmp.Compare(a.held, b.held), cmp.Compare(a.served, b.served)) < 0
}

func (t *Turns) tidy(team string, l *line) {
	if l.held == 0 && len(l.waiting) == 0 {
		delete(t.teams, team)
	}
}
