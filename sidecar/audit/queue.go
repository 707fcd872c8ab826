// Package audit brings events to the control plane: a bounded queue, reported in
// batches until they are acknowledged. Who needs a place in a full one waits a
// little; nothing else does. What needs none, such as a refusal, has only half of
// it, so that a flood of those hides nothing that was sent anywhere.
//
// The use of a credential is written down before any byte of the request leaves, as
// an intent, in memory that outlives the worker; what comes of it is written beside
// it. A team may want more: the intent on a disk (durable), or with the control plane
// (strict).
package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"sallyport/control/api"
)

const (
	batchSize     = 500         // events that are worth a report
	mostEvents    = 1000        // of a report, when as many wait; more would be refused
	batchDelay    = time.Second // how long a first event waits for others
	reportTimeout = 10 * time.Second
	flushTimeout  = 5 * time.Second
	leastPause    = 250 * time.Millisecond // after a failure
	mostPause     = 10 * time.Second
	// reserveTimeout is how long a full queue may keep a request waiting: many
	// batches' time when the control plane is slow, and little when it is away.
	reserveTimeout = 5 * time.Second
	warnEvery      = 10 * time.Second // of events dropped
)

// Reporter is the call that stores events.
type Reporter interface {
	Report(context.Context, *connect.Request[api.ReportRequest]) (*connect.Response[api.ReportResponse], error)
}

// Queue holds the events that the control plane has not acknowledged.
//
// Sequence numbers begin at the time of New in nanoseconds and count by one. So
// a restarted worker, whose clock has gone on by more than it had events, never
// gives a number a second time; the events of one worker have no gaps, and a
// jump says that there is a new one.
type Queue struct {
	client Reporter
	log    *slog.Logger
	disk   *disk               // nil for none
	filled chan struct{}       // there is something to report, a batch is full, or somebody waits
	batch  int                 // events to send at once, at most; Run's own
	places *semaphore.Weighted // of events, here or to come; given in turn
	taken  atomic.Int64        // places
	failed atomic.Bool         // Stats.Degraded
	most   int64               // places taken while Add takes one

	mu      sync.Mutex
	journal *journal
	events  []entry
	next    uint64 // sequence number
	urgent  int    // events that somebody waits for
	stats   Stats
	warned  time.Time // of events dropped
	refused error     // Exhausted
}

// entry is an event that waits, with its slot of the journal.
type entry struct {
	event  *api.Event
	slot   uint32
	stored chan<- error // takes what became of it; nil if nobody waits
}

// Stats counts a Queue's events.
type Stats struct {
	Queued   int    // not acknowledged yet, places reserved included
	Reported uint64 // acknowledged
	Refused  uint64 // places not given
	Dropped  uint64 // not taken by Add
	Rejected uint64 // dropped: the control plane called them invalid
	Degraded bool   // the last use of a credential could not be recorded, and was refused
}

// Config is what a Queue is made of.
type Config struct {
	Client   Reporter
	Capacity int    // events, half of them from Add
	Journal  []byte // of JournalSize(Capacity), as the worker before left it
	Log      *slog.Logger

	Disk  File   // for intents of durable teams; nil for none
	Owner string // whose events they are, a line for whoever finds the file
}

// New makes a Queue, in which the events of the worker before are that it had not
// brought to the control plane.
func New(c Config) *Queue {
	q := &Queue{
		client: c.Client, log: c.Log, places: semaphore.NewWeighted(int64(c.Capacity)),
		most: int64(c.Capacity / 2), filled: make(chan struct{}, 1), batch: mostEvents, next: uint64(time.Now().UnixNano()),
	}
	journal, found := openJournal(c.Journal, c.Capacity)
	q.journal = journal
	if c.Disk != nil {
		q.disk = newDisk(c.Disk, c.Owner, q)
	}
	q.takeOver(found)
	return q
}

// takeOver queues what the worker before left, under the numbers it had given. What
// has no outcome was perhaps sent and perhaps not.
func (q *Queue) takeOver(found []entry) {
	for _, e := range found {
		if last := len(q.events) - 1; e.event.Sequence != 0 && last >= 0 && e.event.Sequence <= q.events[last].event.Sequence {
			e.event.Sequence = 0 // two with one number, which no worker of ours gives
		}
		if e.event.Sequence == 0 {
			e.event.Sequence, e.event.Reason = q.next, Unknown
			q.next++
			q.journal.complete(e.slot, e.event)
		}
		q.next = max(q.next, e.event.Sequence+1)
		q.events = append(q.events, e)
	}
	if n := len(found); n > 0 && q.places.TryAcquire(int64(n)) { // there are as many as slots
		q.taken.Add(int64(n))
		q.wake()
		q.log.Info("events of the worker before are reported", "events", n)
	}
}

// Reserve keeps a place for an event to come, so that a credential is used, or a
// connection passed through, only if that can be recorded. Exactly one Record or Cancel must follow a true
// answer. When the queue is full it waits for a place, and is false if there is
// none within reserveTimeout or before ctx ends.
func (q *Queue) Reserve(ctx context.Context) bool {
	if q.tryReserve() {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, reserveTimeout)
	defer cancel()
	if q.places.Acquire(ctx, 1) != nil {
		q.refuse()
		return false
	}
	q.taken.Add(1)
	return true
}

func (q *Queue) tryReserve() bool {
	if !q.places.TryAcquire(1) {
		return false
	}
	q.taken.Add(1)
	return true
}

func (q *Queue) refuse() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stats.Refused++
	q.failed.Store(true)
}

// Cancel gives up a place that was reserved.
func (q *Queue) Cancel() { q.release(1) }

func (q *Queue) release(n int) {
	q.taken.Add(int64(-n))
	q.places.Release(int64(n))
}

// Record puts e, which becomes the queue's, in a place that was reserved. It
// never blocks.
func (q *Queue) Record(e *api.Event) { q.record(e, nil) }

func (q *Queue) record(e *api.Event, stored chan<- error) {
	clean(e)
	q.mu.Lock()
	defer q.mu.Unlock()
	slot := q.journal.take()
	e.Sequence = q.next
	q.journal.begin(slot, e)
	q.journal.complete(slot, e)
	q.put(entry{e, slot, stored})
}

// put queues an event whose sequence number is the next.
func (q *Queue) put(e entry) {
	q.next++
	q.events = append(q.events, e)
	if e.stored != nil {
		q.urgent++
	}
	if n := len(q.events); n == 1 || n%batchSize == 0 || e.stored != nil {
		q.wake()
	}
}

func (q *Queue) wake() {
	select {
	case q.filled <- struct{}{}:
	default:
	}
}

// Add records e while less than half of the places are taken. It never blocks, and
// is false when e was dropped.
func (q *Queue) Add(e *api.Event) bool {
	if q.taken.Load() >= q.most || !q.tryReserve() {
		q.drop()
		return false
	}
	q.Record(e)
	return true
}

func (q *Queue) drop() {
	q.mu.Lock()
	q.stats.Dropped++
	dropped, now := q.stats.Dropped, time.Now()
	warn := now.Sub(q.warned) >= warnEvery
	if warn {
		q.warned = now
	}
	q.mu.Unlock()
	if warn {
		q.log.Warn("audit events of refusals and of requests without a credential are dropped: half the queue is taken",
			"dropped", dropped, "queued", q.taken.Load())
	}
}

// Stats counts the queue's events.
func (q *Queue) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	stats := q.stats
	stats.Queued, stats.Degraded = int(q.taken.Load()), q.failed.Load()
	return stats
}

// Run reports events until ctx ends, which should be after the last Record, and
// then for a few seconds more what is left. Its error says how many were not.
func (q *Queue) Run(ctx context.Context) error {
	if q.disk == nil {
		return q.run(ctx)
	}
	var writer errgroup.Group
	writer.Go(q.disk.run)
	err := q.run(ctx)
	q.disk.stop(err == nil)
	return errors.Join(err, writer.Wait())
}

func (q *Queue) run(ctx context.Context) error {
	pause := leastPause
	for q.waitForBatch(ctx) {
		err := q.report(ctx)
		if err == nil {
			pause = leastPause
			continue
		}
		if ctx.Err() == nil {
			q.log.Warn("audit events not reported; retrying", "queued", q.Stats().Queued, "error", err)
		}
		sleep(ctx, pause/2+rand.N(pause))
		pause = min(2*pause, mostPause)
	}
	return q.flush(context.WithoutCancel(ctx))
}

// flush reports what is left, for a bounded time.
func (q *Queue) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	var err error
	for q.count() > 0 && ctx.Err() == nil {
		if err = q.report(ctx); err != nil {
			sleep(ctx, leastPause)
		}
	}
	if n := q.count(); n > 0 {
		return fmt.Errorf("%d audit events were not reported: %w", n, err)
	}
	return nil
}

// waitForBatch waits until a batch is full or its first event is old enough. It
// is false when ctx ended.
func (q *Queue) waitForBatch(ctx context.Context) bool {
	for q.count() == 0 {
		select {
		case <-ctx.Done():
			return false
		case <-q.filled:
		}
	}
	timer := time.NewTimer(batchDelay)
	defer timer.Stop()
	for !q.due() {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-q.filled:
		}
	}
	return ctx.Err() == nil
}

// due reports whether there is enough to report, or something that is waited for.
func (q *Queue) due() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.events) >= batchSize || q.urgent > 0
}

func (q *Queue) count() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.events)
}

// report sends one batch and forgets what was acknowledged of it.
func (q *Queue) report(ctx context.Context) error {
	q.mu.Lock()
	n := min(q.batch, len(q.events))
	batch := make([]*api.Event, n)
	for i, e := range q.events[:n] {
		batch[i] = e.event
	}
	q.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	response, err := q.client.Report(ctx, connect.NewRequest(&api.ReportRequest{Events: batch}))
	switch {
	case connect.CodeOf(err) == connect.CodeInvalidArgument && n > 1:
		q.batch = n / 2 // narrow it down to the event that is meant
		return nil
	case connect.CodeOf(err) == connect.CodeInvalidArgument:
		// One event that can't be stored must not hold up all others.
		q.log.Error("audit event dropped: the control plane calls it invalid", "request_id", batch[0].RequestId, "error", err)
		q.forget(n, err, func(s *Stats) { s.Rejected++ })
		return nil
	case err != nil:
		q.exhausted(err)
		return fmt.Errorf("report audit events: %w", err)
	}
	q.exhausted(nil)
	q.batch = mostEvents
	// A worker whose clock was set back has numbers below those of the one before
	// it, so an acknowledgement counts only for what was sent.
	stored := 0
	for stored < len(batch) && batch[stored].Sequence <= response.Msg.GetAcknowledged() {
		stored++
	}
	if stored == 0 {
		return errors.New("report audit events: the control plane acknowledged none")
	}
	q.forget(stored, nil, func(s *Stats) { s.Reported += uint64(stored) })
	return nil
}

// forget drops the first n events, of which err, if any, is what became.
func (q *Queue) forget(n int, err error, count func(*Stats)) {
	q.mu.Lock()
	for _, e := range q.events[:n] {
		q.journal.give(e.slot)
		q.disk.changed(e.slot)
		if e.stored != nil {
			q.urgent--
			e.stored <- err // it has room
		}
	}
	clear(q.events[:n]) // the array lives on
	q.events = q.events[n:]
	count(&q.stats)
	q.mu.Unlock()
	q.disk.flush()
	q.release(n)
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
