// Package forward sends audit events to receivers of the operator's as they are
// recorded: syslog (RFC 5424) and OpenTelemetry (OTLP).
//
//	store.Await ─▶ Forwarder, one goroutine a receiver ─▶ Receiver.Send ─▶ store.Accepted
//
// Each event arrives at least once. Where a receiver has got is in the database, and
// moves on when it has accepted; one replica sends to it, and another goes on when that
// ends. A receiver that is slow or away holds nothing else up.
package forward

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"sallyport/control/store"
)

const (
	batchSize   = 500              // events
	sendTimeout = 30 * time.Second // of a batch
	lookEvery   = 2 * time.Second  // for events that nobody told of
	placeEvery  = 5 * time.Second  // to take a place that another replica had
	leastPause  = 500 * time.Millisecond
	mostPause   = 30 * time.Second // after a failure
)

// Receiver takes events. It serves one goroutine.
type Receiver interface {
	// Send returns nil when all events were accepted. It notices a connection that was
	// lost before, for which there may be no events.
	Send(ctx context.Context, events []Event) error
	// Unsure gives, once, the positions by team after which what was accepted may yet have been lost.
	Unsure() map[string]int64
	Close()
}

// Event is an event as receivers get it.
type Event struct {
	TeamID string
	Team   string // empty: the installation
	store.ChainedEvent
}

// Forwarder sends to its targets.
type Forwarder struct {
	Store   *store.Store
	Targets []Target
	Sender  Sender
	Metrics *Metrics
	Log     *slog.Logger
}

// Sender is what receivers are told of who sends.
type Sender struct{ Hostname, Version string }

// Run forwards until ctx ends.
func (f *Forwarder) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, t := range f.Targets {
		s := &stream{Forwarder: f, target: t, log: f.Log.With("receiver", t.Name), counted: f.Metrics.of(t.Name), held: make(map[string]*held)}
		group.Go(func() error { s.run(ctx); return nil })
	}
	return group.Wait()
}

// stream is what goes to one target.
type stream struct {
	*Forwarder
	target  Target
	log     *slog.Logger
	counted *counted
	place   *store.Forward
	to      Receiver
	held    map[string]*held // by team
	suspect string           // the team whose batch failed last, with nothing taken before it
	taken   *Event           // the last that the receiver took
}

func (s *stream) run(ctx context.Context) {
	recorded := s.Store.Await("")
	defer recorded.Close()
	defer s.leave(ctx)
	pause := leastPause
	for ctx.Err() == nil {
		more, err := s.round(ctx)
		wait, told := lookEvery, recorded.C
		switch {
		case ctx.Err() != nil:
			return
		case err != nil: // try again no earlier, whatever is recorded
			s.counted.failed()
			s.log.Warn("audit events not forwarded; trying again", "error", err)
			wait, told = max(pause/2+rand.N(pause), asked(err)), nil
			pause = min(2*pause, mostPause)
		case s.place == nil:
			wait, told = placeEvery, nil
		case more:
			wait = 0
		}
		if err == nil {
			pause = leastPause
		}
		select {
		case <-ctx.Done():
			return
		case <-told:
		case <-time.After(wait):
		}
	}
}

// round sends one batch of each chain. more: there may be others.
func (s *stream) round(ctx context.Context) (more bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if s.place == nil {
		if s.place, err = s.Store.Forward(ctx, s.target.Name, s.target.Teams); s.place == nil || err != nil {
			return false, err
		}
		s.log.Info("forwarding audit events")
	}
	if s.to == nil {
		if s.to, err = s.target.open(s.Sender); err != nil {
			return false, err
		}
	}
	behind, err := s.place.Behind(ctx)
	if err != nil {
		s.leave(ctx)
		return false, err
	}
	s.counted.behind(behind)
	if err := s.send(ctx, nil); err != nil {
		return false, errors.Join(err, s.age(ctx, behind))
	}
	// A receiver that takes other teams' events is well, and what failed is held.
	slices.SortStableFunc(behind, func(a, b store.Behind) int { return cmp.Compare(s.suspicion(a), s.suspicion(b)) })
	var took bool
	for _, b := range behind {
		sent, err := s.forwardUnlessHeld(ctx, b)
		if err != nil && took && s.place != nil {
			s.hold(b, &refused{error: err})
			return true, nil // what is behind may be more than it was
		}
		if err != nil {
			s.suspect = b.TeamID
			return false, err
		}
		more, took = more || sent != nothing, took || sent == taken
	}
	return more, nil
}

func (s *stream) suspicion(b store.Behind) int {
	if b.TeamID == s.suspect {
		return 1
	}
	return 0
}

// age notes since when the chain waits that waits longest, of a receiver that is away.
func (s *stream) age(ctx context.Context, behind []store.Behind) error {
	if s.place == nil || len(behind) == 0 {
		return nil
	}
	next, err := s.place.Events(ctx, behind[0], 1)
	if err == nil && len(next) > 0 {
		s.counted.oldest(behind[0].TeamID, next[0].RecordedAt)
	}
	return err
}

// forward sends the next batch of a chain, of so many events at most.
func (s *stream) forward(ctx context.Context, b store.Behind, most int) error {
	chained, err := s.place.Events(ctx, b, most)
	if err != nil {
		s.leave(ctx)
		return err
	}
	if len(chained) == 0 {
		return fmt.Errorf("events %d to %d of team %q are not there: verify its audit", b.Position+1, b.End, b.Team)
	}
	s.counted.oldest(b.TeamID, chained[0].RecordedAt)
	events := make([]Event, len(chained))
	for i, e := range chained {
		events[i] = Event{b.TeamID, b.Team, e}
	}
	err = s.send(ctx, events)
	var some *rejected
	var unwanted *refused
	switch {
	case errors.As(err, &some):
		return s.skip(ctx, b, events, some.events, "rejects them", some)
	case errors.As(err, &unwanted):
		unwanted.first = events[0]
		return err
	case err != nil:
		return err
	}
	s.taken = &events[len(events)-1]
	return s.moved(ctx, b, events, 0, "")
}

// skip goes on after events, n of which the receiver refused for good. An event of the
// chain tells of it, unless it would tell only of such events.
func (s *stream) skip(ctx context.Context, b store.Behind, events []Event, n int64, how string, why error) error {
	first, last := events[0].ID, events[len(events)-1].ID
	n = min(n, int64(len(events)))
	s.log.Error("the receiver has refused audit events for good; going on without them", "team", b.Team, "events", n, "first", first, "last", last, "error", why)
	which := fmt.Sprintf("event %d", first)
	if first != last {
		which = fmt.Sprintf("%d of events %d to %d", n, first, last)
	}
	detail := fmt.Sprintf("%s: not with the receiver %s, as it %s", which, s.target.Name, how)
	if !slices.ContainsFunc(events, func(e Event) bool { return e.Kind != store.Refused }) {
		detail = ""
	}
	if err := s.moved(ctx, b, events, n, detail); err != nil {
		return err
	}
	s.counted.lose(notWanted, n)
	return nil
}

// moved notes that the receiver is done with events, without n of them. detail, unless it is empty, is for the chain.
func (s *stream) moved(ctx context.Context, b store.Behind, events []Event, without int64, detail string) error {
	last := events[len(events)-1].ID
	var err error
	if detail == "" {
		err = s.place.Accepted(ctx, b.TeamID, last)
	} else {
		err = s.place.Refused(ctx, b.TeamID, last, detail)
	}
	if err != nil {
		s.leave(ctx)
		return err
	}
	if lost := events[0].ID - b.Position - 1; lost > 0 {
		s.counted.lose(removed, lost)
		s.log.Error("audit events were removed before they were forwarded", "team", b.Team, "events", lost)
	}
	s.counted.accepted(b.TeamID, last-b.Position, int64(len(events))-without)
	return nil
}

// send sends events, or with none looks after the connection. What a receiver may have
// lost with its connection is put down to be sent again.
func (s *stream) send(ctx context.Context, events []Event) error {
	sending, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	err := s.to.Send(sending, events)
	if err == nil {
		return nil
	}
	for team, position := range s.to.Unsure() {
		if back := s.place.Accepted(ctx, team, position); back != nil {
			s.leave(ctx)
			return fmt.Errorf("%w; what may have been lost with the connection is not sent again: %w", err, back)
		}
	}
	return err
}

// leave gives the receiver's place to whoever takes it next.
func (s *stream) leave(ctx context.Context) {
	if s.to != nil {
		s.to.Close()
		s.to = nil
	}
	if s.place != nil {
		s.place.Close(ctx)
		s.place = nil
	}
	s.counted.behind(nil)
}
