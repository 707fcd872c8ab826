package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"sallyport/control/api"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// newQueue makes a queue with a journal that nobody used before.
func newQueue(client Reporter, capacity int, log *slog.Logger) *Queue {
	return New(Config{Client: client, Capacity: capacity, Journal: make([]byte, JournalSize(capacity)), Log: log})
}

// fakeControl stores events as the control plane does: a batch in one
// transaction, a sequence number once.
type fakeControl struct {
	mu      sync.Mutex
	stored  map[uint64]string // request id by sequence
	largest int
	calls   int
	times   int                              // events received, repeated ones included
	before  func([]*api.Event) error         // nothing is stored if it fails
	after   func(ack uint64) (uint64, error) // what becomes of the answer
}

func newFakeControl() *fakeControl { return &fakeControl{stored: map[uint64]string{}} }

func (f *fakeControl) Report(ctx context.Context, r *connect.Request[api.ReportRequest]) (*connect.Response[api.ReportResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if _, err := proto.Marshal(r.Msg); err != nil {
		return nil, connect.NewError(connect.CodeInternal, err) // as the real client does
	}
	f.calls++
	f.times += len(r.Msg.Events)
	f.largest = max(f.largest, len(r.Msg.Events))
	if f.before != nil {
		if err := f.before(r.Msg.Events); err != nil {
			return nil, err
		}
	}
	var acknowledged uint64
	for _, e := range r.Msg.Events {
		if strings.ContainsRune(e.Path, 0) {
			return nil, connect.NewError(connect.CodeInternal, errors.New("invalid byte sequence for encoding UTF8: 0x00"))
		}
		if _, known := f.stored[e.Sequence]; !known {
			f.stored[e.Sequence] = e.RequestId
		}
		acknowledged = max(acknowledged, e.Sequence)
	}
	if f.after != nil {
		var err error
		if acknowledged, err = f.after(acknowledged); err != nil {
			return nil, err
		}
	}
	return connect.NewResponse(&api.ReportResponse{Acknowledged: acknowledged}), nil
}

// has checks that exactly the events 0 to n-1 are stored, each once.
func (f *fakeControl) has(t *testing.T, n int) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := map[string]bool{}
	for _, id := range f.stored {
		if seen[id] {
			t.Errorf("event %s is stored twice", id)
		}
		seen[id] = true
	}
	for i := range n {
		if !seen[fmt.Sprint(i)] {
			t.Errorf("event %d is not stored", i)
		}
	}
	if len(seen) != n {
		t.Errorf("%d events stored, want %d", len(seen), n)
	}
}

func event(i int) *api.Event { return &api.Event{RequestId: fmt.Sprint(i), Path: "/"} }

// inBubble runs test with a queue whose time is the bubble's. The function it
// gets ends the queue and gives Run's error.
func inBubble(t *testing.T, capacity int, test func(t *testing.T, f *fakeControl, q *Queue, end func() error)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFakeControl()
		q := newQueue(f, capacity, quiet)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- q.Run(ctx) }()
		test(t, f, q, func() error { cancel(); return <-done })
		cancel()
	})
}

func fill(t *testing.T, q *Queue, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if !q.Reserve(t.Context()) {
			t.Fatalf("event %d found no place", i)
		}
		q.Record(event(i))
	}
}

var away = connect.NewError(connect.CodeUnavailable, errors.New("away"))
