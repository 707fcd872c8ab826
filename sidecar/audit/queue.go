// Package audit brings events to the control plane: a bounded queue that is
// never waited for, reported in batches until they are acknowledged.
package audit

import (
	"context"
	"log/slog"

	"connectrpc.com/connect"

	"sallyport/control/api"
)

// Reporter is the call that stores events.
type Reporter interface {
	Report(context.Context, *connect.Request[api.ReportRequest]) (*connect.Response[api.ReportResponse], error)
}

// Queue holds the events that the control plane has not acknowledged.
type Queue struct{}

// Stats counts a Queue's events.
type Stats struct {
	Queued   int    // waiting now, reserved places included
	Reported uint64 // acknowledged
	Refused  uint64 // found no place
	Rejected uint64 // dropped, because the control plane called them invalid
}

// New makes a Queue of at most capacity events.
func New(client Reporter, capacity int, log *slog.Logger) *Queue { panic("being built") }

// Reserve keeps a place for an event to come, so that a credential is used only
// when its use can be recorded. Each true answer must be followed by one Record.
func (q *Queue) Reserve() bool { panic("being built") }

// Record puts e, which it takes over, in a place reserved before.
func (q *Queue) Record(e *api.Event) { panic("being built") }

// Add is Reserve and Record at once. It never blocks, and is false when the queue is full.
func (q *Queue) Add(e *api.Event) bool { panic("being built") }

// Stats counts the queue's events.
func (q *Queue) Stats() Stats { panic("being built") }

// Run reports until ctx ends, then what is left for a few seconds. Its error says how many events were lost.
func (q *Queue) Run(ctx context.Context) error { panic("being built") }
