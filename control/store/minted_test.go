package store

import (
	"context"
	"testing"

	"sallyport/control"
)

// TestNoPlaceForAnExchange: a team that has as many exchanges under way as it may is told of
// those, and not that the control plane is away.
func TestNoPlaceForAnExchange(t *testing.T) {
	f := newFixture(t)
	for range aloneOfTeam {
		end, ok := f.alone.Take(t.Context(), f.Team.ID)
		if !ok {
			t.Fatal("no place")
		}
		defer end()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := f.Alone(ctx, f.Team.ID, NewID(), 1, nil)
	wantCode(t, err, control.CodeExchange, "too many exchanges")
}
