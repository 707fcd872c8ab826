package proxy

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
)

// replay is a request's body that is kept while it is short, so that net/http
// can send the request again where an upstream of HTTP/2 said that it did not
// look at it (RFC 9113 section 8.7): under load, most connections end so.
type replay struct {
	body io.ReadCloser
	long atomic.Bool // too long to be kept

	mu   sync.Mutex // held while body is read
	kept []byte
	size int   // read of body
	err  error // of body, or its end
}

// mostKept is how long a body may be, and firstKept what there is room for at first.
const (
	mostKept  = 64 << 10
	firstKept = 1 << 10
)

// canReplay makes the body of out one that can be sent again. What it gives is
// called when the exchange is over.
func canReplay(out *http.Request) (release func()) {
	if out.Body == nil || out.ContentLength > mostKept {
		return nil
	}
	r := &replay{body: out.Body}
	out.Body, out.GetBody = &reading{replay: r}, r.again
	return func() { r.body.Close() }
}

var errNotKept = errors.New("the upstream refused the request when more of its body had gone than is kept")

func (r *replay) again() (io.ReadCloser, error) {
	if r.long.Load() {
		return nil, errNotKept
	}
	return &reading{replay: r}, nil
}

// reading is one sending of a body. The one before may still be waiting for the
// client; what it gets is kept for this one.
type reading struct {
	*replay
	at     int
	closed atomic.Bool
}

func (r *reading) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed.Load():
		return 0, http.ErrBodyReadAfterClose
	case r.at < len(r.kept):
		n := copy(p, r.kept[r.at:])
		r.at += n
		return n, nil
	case r.at < r.size:
		return 0, errNotKept
	case r.err != nil:
		return 0, r.err
	}
	n, err := r.body.Read(p)
	r.keep(p[:n])
	r.at, r.err = r.size, err
	return n, err
}

func (r *replay) keep(p []byte) {
	r.size += len(p)
	switch {
	case r.size > mostKept:
		r.kept = nil
		r.long.Store(true)
	case r.kept == nil && len(p) > 0:
		r.kept = append(make([]byte, 0, max(len(p), firstKept)), p...)
	default:
		r.kept = append(r.kept, p...)
	}
}

// Close ends this sending. The body is closed when the exchange is over.
func (r *reading) Close() error {
	r.closed.Store(true)
	return nil
}
