package agentapi

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	mostGrouped  = 1000 // calls
	groupTimeout = 10 * time.Second
)

// group makes one call to the database of the calls for a team that come while one
// is under way: thousands of streams say the same at about the same time.
type group[In, Out any] struct {
	// do gives an answer for each of in.
	do func(ctx context.Context, team string, in []In) ([]Out, error)

	mu    sync.Mutex
	teams map[string][]*grouped[In, Out] // that wait; a team is in it while one of its calls leads
}

// grouped is one call.
type grouped[In, Out any] struct {
	in   In
	out  Out
	err  error
	turn chan bool // true: lead the next; false: it is done
}

func newGroup[In, Out any](do func(context.Context, string, []In) ([]Out, error)) *group[In, Out] {
	return &group[In, Out]{do: do, teams: make(map[string][]*grouped[In, Out])}
}

// inTurn is do, of whose calls no more are under way than turns allows.
func inTurn[In, Out any](turns *semaphore.Weighted, do func(context.Context, string, []In) ([]Out, error)) func(context.Context, string, []In) ([]Out, error) {
	return func(ctx context.Context, team string, in []In) ([]Out, error) {
		if err := turns.Acquire(ctx, 1); err != nil {
			return nil, err
		}
		defer turns.Release(1)
		return do(ctx, team, in)
	}
}

// call waits for its answer, for a bounded time whether or not ctx ends: others may wait for it.
func (g *group[In, Out]) call(ctx context.Context, team string, in In) (Out, error) {
	c := &grouped[In, Out]{in: in, turn: make(chan bool, 1)}
	g.mu.Lock()
	_, led := g.teams[team]
	g.teams[team] = append(g.teams[team], c)
	g.mu.Unlock()
	if led && !<-c.turn {
		return c.out, c.err
	}
	g.lead(ctx, team, c)
	return c.out, c.err
}

// lead carries out what waits, mine with it, and hands on the lead.
func (g *group[In, Out]) lead(ctx context.Context, team string, mine *grouped[In, Out]) {
	g.mu.Lock()
	waiting := g.teams[team]
	n := min(len(waiting), mostGrouped)
	now := waiting[:n:n]
	g.teams[team] = waiting[n:]
	g.mu.Unlock()

	in := make([]In, n)
	for i, c := range now {
		in[i] = c.in
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), groupTimeout)
	defer cancel()
	out, err := g.carryOut(ctx, team, in)
	for i, c := range now {
		if c.err = err; err == nil {
			c.out = out[i]
		}
		if c != mine {
			c.turn <- false
		}
	}

	g.mu.Lock()
	defer g.mu.Unlock()
	if waiting := g.teams[team]; len(waiting) > 0 {
		waiting[0].turn <- true
	} else {
		delete(g.teams, team)
	}
}

// carryOut is do. A panic is the error of all, or the team would wait for ever.
func (g *group[In, Out]) carryOut(ctx context.Context, team string, in []In) (out []Out, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("a call for many panicked: %v\n%s", p, debug.Stack())
		}
	}()
	return g.do(ctx, team, in)
}
