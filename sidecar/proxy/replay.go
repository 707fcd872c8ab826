package proxy

import (
	"errors"
	"io"
	"net/http"
	"sync"
)

// replay is a request's body that is kept while it is short, so that net/http
// can send the request again where an upstream of HTTP/2 said that it did not
// look at it (RFC 9113 section 8.7): under load, most connections end so.
//
// The body is read in a goroutine of its own, one piece at a time: a sending that
// is given up must not wait for a client that says nothing, and what the client
// says then is for the next sending.
type replay struct {
	body io.ReadCloser

	mu      sync.Mutex
	kept    []byte        // all that was read, unless it is too long
	long    bool          // too long to be kept
	piece   []byte        // read last
	size    int           // read of body
	err     error         // of body, or its end
	pending chan struct{} // closed when the piece under way has come; nil for none
}

// mostKept is how long a body may be, and pieceSize how much of it is read at once.
const (
	mostKept  = 64 << 10
	pieceSize = 32 << 10
)

// canReplay makes the body of out one that can be sent again. What it gives is
// called when the exchange is over.
func canReplay(out *http.Request) (release func()) {
	if out.Body == nil || out.ContentLength > mostKept {
		return nil
	}
	r := &replay{body: out.Body}
	out.Body, out.GetBody = r.sending(), r.again
	return r.release
}

var errNotKept = errors.New("the upstream refused the request when more of its body had gone than is kept")

func (r *replay) sending() *sending { return &sending{replay: r, given: make(chan struct{})} }

func (r *replay) again() (io.ReadCloser, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.long {
		return nil, errNotKept
	}
	return r.sending(), nil
}

// release ends a read under way and waits for it.
func (r *replay) release() {
	r.body.Close()
	r.mu.Lock()
	pending := r.pending
	r.mu.Unlock()
	if pending != nil {
		<-pending
	}
}

// fetch begins to read the next piece, where nobody has yet.
func (r *replay) fetch() <-chan struct{} {
	if r.pending != nil {
		return r.pending
	}
	came := make(chan struct{})
	r.pending = came
	buffer := r.piece[:cap(r.piece)]
	if len(buffer) == 0 {
		buffer = make([]byte, pieceSize)
	}
	go func() {
		defer close(came)
		n, err := r.body.Read(buffer)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.pending, r.piece, r.err = nil, buffer[:n], err
		if r.size += n; r.size > mostKept {
			r.kept, r.long = nil, true
		} else {
			r.kept = append(r.kept, r.piece...)
		}
	}()
	return came
}

// sending is one sending of a body.
type sending struct {
	*replay
	at    int
	once  sync.Once
	given chan struct{} // closed when it is given up
}

func (s *sending) Read(p []byte) (int, error) {
	for {
		select {
		case <-s.given:
			return 0, http.ErrBodyReadAfterClose
		default:
		}
		s.mu.Lock()
		n, err := s.take(p)
		if n > 0 || err != nil || len(p) == 0 {
			s.mu.Unlock()
			return n, err
		}
		came := s.fetch()
		s.mu.Unlock()
		select {
		case <-came:
		case <-s.given:
			return 0, http.ErrBodyReadAfterClose
		}
	}
}

// take gives what there is for this sending.
func (s *sending) take(p []byte) (int, error) {
	n := 0
	switch last := s.size - len(s.piece); {
	case s.at < len(s.kept):
		n = copy(p, s.kept[s.at:])
	case s.at < s.size && s.at >= last:
		n = copy(p, s.piece[s.at-last:])
	case s.at < s.size:
		return 0, errNotKept
	default:
		return 0, s.err
	}
	s.at += n
	return n, nil
}

// Close ends this sending. The body is closed when the exchange is over.
func (s *sending) Close() error {
	s.once.Do(func() { close(s.given) })
	return nil
}
