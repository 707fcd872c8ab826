package proxy

import (
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Facts are what is known of a connection before its first request.
type Facts struct {
	SNI    string // normalised; empty on a plain connection
	Port   uint16 // the port the client asked for
	TLS    bool
	HTTP2  bool // the client speaks HTTP/2
	Direct bool // the client knows that it speaks to a proxy
}

// What was decided about a request.
const (
	Inject  = "inject"
	Inspect = "inspect"
	Refuse  = "refuse"
)

// Exchange is the record of one request, filled as it travels. It never holds
// material or a query.
type Exchange struct {
	Facts
	ID       string
	Start    time.Time
	Host     string // normalised
	Method   string
	Path     string // escaped, as it is sent
	Protocol string // what the client spoke

	Decision   string
	Reason     string // code of the Error that ended it, if one did
	Credential string // id
	Version    uint64
	Lease      string

	Status        int
	RequestBytes  uint64
	ResponseBytes uint64
	Upstream      time.Duration // until the response's head
	Duration      time.Duration
	Redactions    int

	Intent   any // kept between Config.Intend and Finish for whoever records them
	Admitted any // kept by Config.Plan for when the request is decided anew
}

// maxPath bounds what a record keeps of a path.
const maxPath = 1024

func newExchange(facts Facts, r *http.Request) *Exchange {
	return &Exchange{
		Facts:    facts,
		ID:       rand.Text(),
		Start:    time.Now(),
		Method:   r.Method,
		Path:     recordedPath(r),
		Protocol: r.Proto,
		Decision: Refuse,
	}
}

func recordedPath(r *http.Request) string {
	path := r.URL.EscapedPath()
	return path[:min(len(path), maxPath)]
}

// countedBody counts what is read of a request's body, and keeps why it broke
// off. It may be read from another goroutine than the one that serves the request,
// which Close interrupts.
type countedBody struct {
	io.ReadCloser
	c       client
	reading sync.Mutex // held while the client is read from
	closed  atomic.Bool
	expects bool        // the client waits to be told to go on
	kept    atomic.Bool // the request may be decided anew, with all of its body
	n       atomic.Uint64
	done    atomic.Bool
	err     atomic.Pointer[error] // the first, but the end
}

var errClosedBody = errors.New("read of a request's body that nobody wants any more")

func (b *countedBody) Read(p []byte) (int, error) {
	b.reading.Lock()
	defer b.reading.Unlock()
	if b.closed.Load() {
		return 0, errClosedBody
	}
	if b.expects {
		b.expects = false
		b.c.interim(http.StatusContinue, nil)
	}
	n, err := b.ReadCloser.Read(p)
	b.n.Add(uint64(n))
	switch {
	case err == io.EOF:
		b.done.Store(true)
	case err != nil && !b.closed.Load():
		b.err.CompareAndSwap(nil, &err)
	}
	return n, err
}

// Close leaves the rest unread, and makes a Read under way fail; whoever owns the
// connection sees to what follows. While the body is kept it does nothing.
func (b *countedBody) Close() error {
	if !b.kept.Load() && !b.closed.Swap(true) && !b.done.Load() {
		b.c.stopBody()
	}
	return nil
}

// settle waits until nobody reads from the client any more.
func (b *countedBody) settle() {
	b.kept.Store(false)
	_ = b.Close() // never fails
	b.reading.Lock()
	defer b.reading.Unlock()
}

// fault is what went wrong with reading the body, if anything did.
func (b *countedBody) fault() error {
	if b == nil {
		return nil
	}
	if err := b.err.Load(); err != nil {
		return *err
	}
	return nil
}
