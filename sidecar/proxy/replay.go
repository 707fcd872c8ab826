package proxy

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"sync"
)

// replay is a request's body that is kept while it is short, so that net/http
// can send the request again where an upstream of HTTP/2 said that it did not
// look at it (RFC 9113 section 8.7): most connections end so under load.
type replay struct {
	io.ReadCloser
	mu    sync.Mutex
	kept  []byte
	long  bool // too long to be kept
	whole bool // all of it is kept
}

// mostKept is how long a body may be, and firstKept what there is room for at first.
const (
	mostKept  = 64 << 10
	firstKept = 1 << 10
)

// canReplay makes the body of out one that can be sent again.
func canReplay(out *http.Request) {
	if out.Body == nil || out.ContentLength > mostKept {
		return
	}
	r := &replay{ReadCloser: out.Body}
	out.Body, out.GetBody = r, r.again
}

func (r *replay) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.long:
	case len(r.kept)+n > mostKept:
		r.kept, r.long = nil, true
	default:
		if r.kept == nil && n > 0 {
			r.kept = make([]byte, 0, max(n, firstKept))
		}
		r.kept = append(r.kept, p[:n]...)
		r.whole = err == io.EOF
	}
	return n, err
}

var errNotKept = errors.New("the upstream refused the request when part of its body had gone, which was not kept")

func (r *replay) again() (io.ReadCloser, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.whole {
		return nil, errNotKept
	}
	return io.NopCloser(bytes.NewReader(r.kept)), nil
}
