package material

import (
	"bytes"
	"context"
	"crypto/hpke"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"sallyport/control/api"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// fakeControl leases the token "CREDENTIAL-VERSION", fresh for ten minutes and
// valid for an hour.
type fakeControl struct {
	key     hpke.PrivateKey
	fetches atomic.Int64

	mu   sync.Mutex
	fail error                    // instead of an answer
	gate chan struct{}            // an answer waits for it
	edit func(*api.FetchResponse) // the answer before it is sent
	skew time.Duration            // how far its clock is ahead
}

func newFakeControl() *fakeControl { return &fakeControl{key: must(api.GenerateSealKey())} }

func (f *fakeControl) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakeControl) Fetch(ctx context.Context, r *connect.Request[api.FetchRequest]) (*connect.Response[api.FetchResponse], error) {
	f.fetches.Add(1)
	f.mu.Lock()
	fail, gate, edit, now := f.fail, f.gate, f.edit, time.Now().Add(f.skew)
	f.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return nil, connect.NewError(connect.CodeDeadlineExceeded, ctx.Err())
		}
	}
	if fail != nil {
		return nil, fail
	}
	m := &api.FetchResponse{
		Version:    r.Msg.Version,
		Sealed:     f.sealed(r.Msg.CredentialId, r.Msg.Version),
		FreshUntil: timestamppb.New(now.Add(10 * time.Minute)),
		HardExpiry: timestamppb.New(now.Add(time.Hour)),
		LeaseId:    fmt.Sprintf("lease-%d", f.fetches.Load()),
	}
	if edit != nil {
		edit(m)
	}
	response := connect.NewResponse(m)
	response.Header().Set("Date", now.UTC().Format(http.TimeFormat))
	return response, nil
}

func (f *fakeControl) sealed(id string, version uint64) []byte {
	return must(api.SealMaterial(f.key.PublicKey().Bytes(), id, version, api.Material{Token: token(id, version)}))
}

func token(id string, version uint64) []byte { return fmt.Appendf(nil, "%s-%d", id, version) }

// inBubble runs test with a cache whose time is the bubble's.
func inBubble(t *testing.T, test func(t *testing.T, f *fakeControl, c *Cache)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFakeControl()
		c := NewCache(f, f.key, quiet)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		test(t, f, c)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func get(t *testing.T, c *Cache, id string, version uint64) *Lease {
	t.Helper()
	l, err := c.Get(t.Context(), id, version, "api.test")
	if err != nil {
		t.Fatalf("Get %s version %d: %v", id, version, err)
	}
	if got := l.Material().Token; !bytes.Equal(got, token(id, version)) {
		t.Fatalf("Get %s version %d gives another material", id, version)
	}
	return l
}

func refuses(t *testing.T, c *Cache, id string, version uint64, want error) {
	t.Helper()
	l, err := c.Get(t.Context(), id, version, "api.test")
	if !errors.Is(err, want) {
		t.Errorf("Get %s version %d: error %v, want %v", id, version, err, want)
	}
	if l != nil {
		t.Errorf("Get %s version %d: a lease beside the error", id, version)
	}
}

func (f *fakeControl) fetched(t *testing.T, want int64) {
	t.Helper()
	if got := f.fetches.Load(); got != want {
		t.Errorf("%d fetches, want %d", got, want)
	}
}
