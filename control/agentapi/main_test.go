package agentapi_test

import (
	"context"
	"testing"
	"time"

	"connectrpc.com/connect"

	"sallyport/control/api"
	"sallyport/control/controltest"
)

var plane *controltest.Plane

func TestMain(m *testing.M) { controltest.Main(m, &plane) }

// patience bounds a wait for something that must happen.
const patience = 10 * time.Second

func code(t *testing.T, err error, want connect.Code) {
	t.Helper()
	if err == nil || connect.CodeOf(err) != want {
		t.Errorf("error %v, want %v", err, want)
	}
}

// stream is a Watch whose messages are read in order.
type stream struct {
	*connect.BidiStreamForClient[api.WatchRequest, api.WatchResponse]
	t      *testing.T
	cancel context.CancelFunc
}

// watch opens a stream and reads its first snapshot.
func watch(t *testing.T, s *controltest.Sidecar) (*stream, *api.WatchResponse) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &stream{s.Client.Watch(ctx), t, cancel}
	t.Cleanup(cancel)
	if err := w.Send(&api.WatchRequest{}); err != nil {
		t.Fatal(err)
	}
	return w, w.next()
}

// next is the next snapshot.
func (w *stream) next() *api.WatchResponse {
	w.t.Helper()
	m, err := w.receive()
	if err != nil {
		w.t.Fatalf("no snapshot: %v", err)
	}
	return m
}

// until reads snapshots until one satisfies ok.
func (w *stream) until(ok func(*api.WatchResponse) bool) *api.WatchResponse {
	w.t.Helper()
	for {
		if m := w.next(); ok(m) {
			return m
		}
	}
}

// ends reads until the stream ends, and gives its error.
func (w *stream) ends() error {
	w.t.Helper()
	for {
		if _, err := w.receive(); err != nil {
			return err
		}
	}
}

func (w *stream) receive() (*api.WatchResponse, error) {
	w.t.Helper()
	stop := time.AfterFunc(patience, w.cancel)
	defer stop.Stop()
	return w.Receive()
}

func (w *stream) acknowledge(revision uint64) {
	w.t.Helper()
	if err := w.Send(&api.WatchRequest{AppliedRevision: revision}); err != nil {
		w.t.Fatal(err)
	}
}
