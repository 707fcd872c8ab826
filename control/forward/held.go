package forward

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"sallyport/control/store"
)

// refused says that a receiver does not want these events as they are, and may want
// others: they are too many, too long, or one is wrong to it.
type refused struct{ error }

func (r *refused) Unwrap() error { return r.error }

// held is a chain whose events were refused. It is tried with fewer and fewer, and in
// the end with one at growing pauses, and keeps no other chain waiting.
type held struct {
	batch int
	pause time.Duration
	until time.Time
}

// forwardUnlessHeld sends the next batch of a chain. sent: there may be more to send at once.
func (s *stream) forwardUnlessHeld(ctx context.Context, b store.Behind) (sent bool, err error) {
	h := s.held[b.TeamID]
	if h == nil {
		h = &held{batch: batchSize, pause: leastPause}
	}
	if time.Now().Before(h.until) {
		return false, nil
	}
	err = s.forward(ctx, b, h.batch)
	var unwanted *refused
	switch {
	case err == nil && h.batch >= batchSize:
		delete(s.held, b.TeamID)
		return true, nil
	case err == nil:
		h.batch, h.pause = min(2*h.batch, batchSize), leastPause
		return true, nil
	case !errors.As(err, &unwanted):
		return false, err
	}
	s.held[b.TeamID] = h
	s.counted.failed()
	if h.batch > 1 {
		h.batch = min(h.batch, int(b.End-b.Position)+1) / 2
		return true, nil
	}
	s.log.Warn("an audit event is refused; trying it again, and others meanwhile", "team", b.Team, "event", b.Position+1, "error", err)
	h.until = time.Now().Add(h.pause/2 + rand.N(h.pause))
	h.pause = min(2*h.pause, mostPause)
	return false, nil
}
