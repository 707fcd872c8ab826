package turns

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
)

// crowd asks for n places of a team, and keeps what it gets until end is called.
func crowd(t *testing.T, turns *Turns, team string, n int) (held func() int, end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	count := 0
	for range n {
		go func() {
			end, ok := turns.Take(ctx, team)
			if !ok {
				return
			}
			mu.Lock()
			count++
			mu.Unlock()
			<-ctx.Done()
			end()
		}()
	}
	synctest.Wait()
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return count
	}, cancel
}

// Teams that keep all that they get leave a place for one that has none.
func TestFewTeamsFillNoPlaces(t *testing.T) {
	for _, c := range []struct{ places, most, teams, alone int }{{256, 8, 35, 8}, {5, 2, 3, 2}, {4, 8, 2, 2}} {
		synctest.Test(t, func(t *testing.T) {
			turns := New(c.places, c.most)
			total := 0
			for i := range c.teams {
				held, end := crowd(t, turns, fmt.Sprint(i), 100)
				defer end()
				total += held()
				if i == 0 && held() != c.alone {
					t.Errorf("of %d places a team alone has %d, want %d", c.places, held(), c.alone)
				}
			}
			if total >= c.places {
				t.Fatalf("%d teams hold %d of %d places", c.teams, total, c.places)
			}
			newcomer, end := crowd(t, turns, "newcomer", 1)
			defer end()
			if newcomer() != 1 {
				t.Errorf("beside %d teams another waits, though %d of %d places are free", c.teams, c.places-total, c.places)
			}
		})
	}
}

// Where teams do hold all places, however many wait already, the next one that comes
// free is for a team that has none and was not served before.
func TestNextPlaceIsForWhoHasNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := New(5, 2)
		var ends []func()
		for i := range 5 {
			end, ok := turns.Take(t.Context(), fmt.Sprint(i))
			if !ok {
				t.Fatal("no place")
			}
			ends = append(ends, end)
		}
		for i := range 5 {
			_, end := crowd(t, turns, fmt.Sprint(i), 50)
			defer end()
		}
		for i := range 3 { // one after another, as if each were the only one
			held, end := crowd(t, turns, fmt.Sprint("newcomer", i), 3)
			defer end()
			if held() != 0 {
				t.Fatal("there was a place")
			}
			ends[i]()
			synctest.Wait()
			if held() != 1 {
				t.Errorf("newcomer %d has %d places, and teams that were served before have others", i, held())
			}
		}
	})
}

// Who stops waiting takes no place, and nothing is kept of teams that are gone.
func TestWhoGoesTakesNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := New(2, 1)
		first, ok := turns.Take(t.Context(), "a")
		if !ok {
			t.Fatal("no place")
		}
		_, stop := crowd(t, turns, "a", 20)
		stop()
		synctest.Wait()
		first()
		first() // once is enough
		if len(turns.teams) != 0 || turns.free != 2 {
			t.Errorf("%d teams are remembered, %d places free", len(turns.teams), turns.free)
		}
	})
}

// Whatever many do at once, no more places are given than there are, and all come back.
func TestPlacesAreCounted(t *testing.T) {
	turns := New(5, 2)
	var mu sync.Mutex
	taken, most := 0, 0
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() {
			for n := range 50 {
				ctx, cancel := context.WithCancel(t.Context())
				if n%3 == 0 {
					go cancel()
				}
				if end, ok := turns.Take(ctx, fmt.Sprint(i%7)); ok {
					mu.Lock()
					taken++
					most = max(most, taken)
					mu.Unlock()
					mu.Lock()
					taken--
					mu.Unlock()
					end()
				}
				cancel()
			}
		})
	}
	all.Wait()
	if most > 5 || turns.free != 5 || len(turns.teams) != 0 {
		t.Errorf("%d places at once; %d free at the end, %d teams remembered", most, turns.free, len(turns.teams))
	}
}
