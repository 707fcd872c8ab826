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
type refused struct {
	error
	how     string // in our words, after "it"; empty: what is refused is never skipped
	certain bool   // that it is for the events, and not for the receiver's own trouble
	first   Event  // of those that it refused
}

func (r *refused) Unwrap() error { return r.error }

// times is how often an event is to be refused by itself before it is skipped.
func (r *refused) times() int {
	if r.certain {
		return 2
	}
	return 4
}

// held is a chain whose events were refused. It is tried with fewer and fewer, in the end
// with one, and keeps no other chain waiting.
//
// One that is refused by itself is skipped when the receiver took another event since, and
// refuses it again: then it is the event, not the receiver or how it is set up, of which
// a receiver that refuses everything tells nothing.
type held struct {
	batch    int
	pause    time.Duration
	until    time.Time
	refusals int   // of the first event by itself, after each of which another was taken
	reach    int64 // how far from that event the one is that was tried last in its place
}

// progress is what came of an attempt to send a chain's next batch.
type progress int

const (
	nothing progress = iota // and nothing else to send at once
	moving                  // there may be more to send at once
	taken                   // so there may, and the receiver took something
)

// forwardUnlessHeld sends the next batch of a chain.
func (s *stream) forwardUnlessHeld(ctx context.Context, b store.Behind) (progress, error) {
	h := s.held[b.TeamID]
	if h == nil {
		h = &held{batch: batchSize, pause: leastPause}
	}
	if time.Now().Before(h.until) {
		return nothing, nil
	}
	err := s.forward(ctx, b, h.batch)
	var unwanted *refused
	switch {
	case err == nil && h.batch >= batchSize:
		delete(s.held, b.TeamID)
		return taken, nil
	case err == nil:
		*h = held{batch: min(2*h.batch, batchSize), pause: leastPause}
		return taken, nil
	case !errors.As(err, &unwanted):
		return nothing, err
	}
	if h.batch > 1 || unwanted.how == "" {
		return s.hold(b, unwanted), nil
	}
	return s.judge(ctx, b, h, unwanted)
}

// hold has fewer of a chain's events tried, and a single one later.
func (s *stream) hold(b store.Behind, why *refused) progress {
	s.counted.failed()
	h := s.held[b.TeamID]
	if h == nil {
		h = &held{batch: batchSize, pause: leastPause}
		s.held[b.TeamID] = h
	}
	wait := max(h.pause/2+rand.N(h.pause), asked(why))
	if h.batch > 1 {
		h.batch = min(h.batch, int(b.End-b.Position)+1) / 2
		if why.how != "" { // it is well, and wants others
			return moving
		}
	} else {
		s.log.Warn("an audit event is not taken; trying it again, and other teams' meanwhile", "team", b.Team, "event", b.Position+1, "error", why)
		h.pause = min(2*h.pause, mostPause)
	}
	h.until = time.Now().Add(wait)
	return nothing
}

// judge decides about an event that was refused by itself.
func (s *stream) judge(ctx context.Context, b store.Behind, h *held, why *refused) (progress, error) {
	if h.refusals++; h.refusals >= why.times() {
		if err := s.skip(ctx, b, []Event{why.first}, 1, why.how, why); err != nil {
			return nothing, err
		}
		*h = held{batch: 1, pause: leastPause}
		return moving, nil
	}
	takes, err := s.takesAnother(ctx, b, h, why.first.ID)
	if err != nil {
		return nothing, err
	}
	if takes && why.certain {
		s.counted.failed()
		return moving, nil
	}
	if !takes {
		h.refusals = 0
	}
	return s.hold(b, why), nil
}

// takesAnother reports whether the receiver takes another event than the one it refused: the
// last that it took, once more, or else one before it or after it, further away each time.
func (s *stream) takesAnother(ctx context.Context, b store.Behind, h *held, event int64) (bool, error) {
	if s.taken != nil {
		if takes, err := s.takes(ctx, *s.taken); takes || err != nil {
			return takes, err
		}
	}
	if h.reach = max(1, 2*h.reach); event-h.reach < 1 && event+h.reach > b.End {
		h.reach = 1
	}
	for _, other := range []int64{event - h.reach, event + h.reach} {
		if other < 1 || other > b.End {
			continue
		}
		chained, err := s.place.Events(ctx, store.Behind{TeamID: b.TeamID, Position: other - 1, End: other}, 1)
		if err != nil {
			s.leave(ctx)
			return false, err
		}
		for _, e := range chained {
			if takes, err := s.takes(ctx, Event{b.TeamID, b.Team, e}); takes || err != nil {
				return takes, err
			}
		}
	}
	return false, nil
}

func (s *stream) takes(ctx context.Context, e Event) (bool, error) {
	err := s.send(ctx, []Event{e})
	var unwanted *refused
	var some *rejected
	if errors.As(err, &unwanted) || errors.As(err, &some) {
		return false, nil
	}
	if err == nil {
		s.taken = &e
	}
	return err == nil, err
}
