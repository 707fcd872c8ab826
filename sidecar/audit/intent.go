package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"sallyport/control/api"
)

// Reasons of events that no outcome is known of.
const (
	Intended = "intent"          // with the control plane before the request was sent; its outcome follows
	Unknown  = "outcome_unknown" // the worker died: it was perhaps sent and perhaps not
)

// intendTimeout is how long a request may wait for its intent to be where it must be.
const intendTimeout = 5 * time.Second

// What keeps an intent from being recorded. Nothing may be sent then.
var (
	ErrNoDisk         = errors.New("the team's audit is durable, and there is no directory for its log")
	ErrDisk           = errors.New("the log of intents can't be written")
	ErrUnacknowledged = errors.New("the control plane has not acknowledged the intent")
)

// Intent is a use of a credential that was recorded before it happened. Complete
// must follow, with what came of it in the event.
type Intent struct {
	Event *api.Event
	slot  uint32
}

// Intend records, in a place that was reserved, that what e says is about to
// happen: where the mode says it has to be before it may. After an error Complete
// must follow too.
func (q *Queue) Intend(ctx context.Context, mode api.AuditMode, e *api.Event) (*Intent, error) {
	i, err := q.intend(ctx, mode, e)
	if failed := err != nil; failed != q.failed.Load() && ctx.Err() == nil { // who leaves says nothing of the log
		q.failed.Store(failed)
	}
	return i, err
}

func (q *Queue) intend(ctx context.Context, mode api.AuditMode, e *api.Event) (*Intent, error) {
	clean(e)
	e.Sequence = 0
	q.mu.Lock()
	i := &Intent{Event: e, slot: q.journal.take()}
	q.journal.begin(i.slot, e)
	var written <-chan struct{}
	var of *commit
	if mode == api.AuditMode_AUDIT_MODE_DURABLE && q.disk != nil {
		of = q.disk.join(i.slot)
		written = of.done
	}
	q.mu.Unlock()
	switch mode {
	case api.AuditMode_AUDIT_MODE_DURABLE:
		if q.disk == nil {
			return i, ErrNoDisk
		}
		return i, q.disk.wait(ctx, of, written)
	case api.AuditMode_AUDIT_MODE_STRICT:
		return i, q.tell(ctx, e)
	}
	return i, nil
}

var errTooMany = errors.New("too many events wait for it")

// tell brings an intent to the control plane. The event of its outcome is another.
func (q *Queue) tell(ctx context.Context, e *api.Event) error {
	ctx, cancel := context.WithTimeout(ctx, intendTimeout)
	defer cancel()
	if !q.Reserve(ctx) {
		return fmt.Errorf("%w: %w", ErrUnacknowledged, cmp.Or(q.Exhausted(), errTooMany))
	}
	intent := proto.Clone(e).(*api.Event)
	intent.Reason = Intended
	stored := make(chan error, 1)
	q.record(intent, stored)
	select {
	case err := <-stored:
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnacknowledged, err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnacknowledged, cmp.Or(q.Exhausted(), ctx.Err()))
	}
}

// Complete queues the event of an intent, in which only what came of it has changed.
// It never blocks.
func (q *Queue) Complete(i *Intent) {
	i.Event.Reason = cleanText(i.Event.Reason, maxField)
	q.mu.Lock()
	defer q.mu.Unlock()
	i.Event.Sequence = q.next
	q.journal.complete(i.slot, i.Event)
	q.disk.changed(i.slot)
	q.put(entry{event: i.Event, slot: i.slot})
}
