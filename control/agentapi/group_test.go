package agentapi

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// Calls of many at once are answered each with its own answer, or all with the
// error, in far fewer calls, and never of two teams together.
func TestGroup(t *testing.T) {
	var calls, under atomic.Int64
	failing := errors.New("away")
	g := newGroup(func(_ context.Context, team string, in []string) ([]string, error) {
		calls.Add(1)
		if team == "broken" {
			return nil, failing
		}
		if under.Add(1) > 1 {
			t.Error("two calls for one team at once")
		}
		defer under.Add(-1)
		out := make([]string, len(in))
		for i, text := range in {
			out[i] = team + "/" + text
		}
		return out, nil
	})
	const callers, times = 50, 100
	var all sync.WaitGroup
	for c := range callers {
		all.Go(func() {
			for n := range times {
				text := fmt.Sprintf("%d-%d", c, n)
				if out, err := g.call(t.Context(), "team", text); err != nil || out != "team/"+text {
					t.Errorf("call %s: %q, %v", text, out, err)
				}
				if _, err := g.call(t.Context(), "broken", text); !errors.Is(err, failing) {
					t.Errorf("a call that failed: %v", err)
				}
			}
		})
	}
	all.Wait()
	if n := calls.Load(); n >= 2*callers*times {
		t.Errorf("%d calls: none were made together", n)
	}
	if len(g.teams) != 0 {
		t.Errorf("%d teams are kept", len(g.teams))
	}
}

// Whoever leads and has gone does not take the others' call along.
func TestGroupOutlivesItsLeader(t *testing.T) {
	g := newGroup(func(ctx context.Context, _ string, in []int) ([]int, error) { return in, ctx.Err() })
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if out, err := g.call(gone, "team", 7); err != nil || out != 7 {
		t.Errorf("%d, %v", out, err)
	}
}

// A call that panics is an error, and the team's next is made.
func TestGroupOutlivesAPanic(t *testing.T) {
	g := newGroup(func(_ context.Context, _ string, in []int) ([]int, error) {
		if in[0] == 0 {
			panic("zero")
		}
		return in, nil
	})
	if _, err := g.call(t.Context(), "team", 0); err == nil {
		t.Error("a panic was no error")
	}
	if out, err := g.call(t.Context(), "team", 7); err != nil || out != 7 {
		t.Errorf("%d, %v", out, err)
	}
}
