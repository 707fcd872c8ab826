package store

import (
	"context"
	"testing"
	"time"

	"sallyport/control"
)

// TestSearchesLeaveConnections: who looks for what is not there reads all of a chain, in
// the turns of those who verify; who reads on from a place waits for none.
func TestSearchesLeaveConnections(t *testing.T) {
	f := newFixture(t)
	for range cap(f.reading) {
		f.reading <- struct{}{}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for _, filter := range []EventFilter{{Host: "none.example.com"}, {Agent: "none"}, {Decision: "none"}, {Since: time.Now()}, {Until: time.Now()}} {
		_, _, err := f.Follow(ctx, f.Team.ID, filter)
		wantCode(t, err, control.CodeUnavailable, "try again")
	}
	events, _, err := f.Follow(t.Context(), f.Team.ID, EventFilter{})
	if err != nil || len(events) == 0 {
		t.Errorf("%d events, %v", len(events), err)
	}
	<-f.reading
	if _, _, err := f.Follow(t.Context(), f.Team.ID, EventFilter{Host: "none.example.com"}); err != nil {
		t.Error(err)
	}
}
