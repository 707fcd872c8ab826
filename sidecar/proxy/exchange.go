package proxy

import (
	"crypto/rand"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// Facts are what is known of a connection before its first request.
type Facts struct {
	SNI  string // normalised; empty on a plain connection
	Port uint16 // the port the client asked for
	TLS  bool
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
	Path     string // escaped, as the client sent it
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
}

// maxPath bounds what a record keeps of a path.
const maxPath = 1024

func newExchange(facts Facts, r *http.Request) *Exchange {
	path := r.URL.EscapedPath()
	return &Exchange{
		Facts:    facts,
		ID:       rand.Text(),
		Start:    time.Now(),
		Method:   r.Method,
		Path:     path[:min(len(path), maxPath)],
		Protocol: r.Proto,
		Decision: Refuse,
	}
}

// countedBody counts what is read of a request's body, and keeps why it broke off. The transport may read it
// from another goroutine than the one that serves the request.
type countedBody struct {
	io.ReadCloser
	n   atomic.Uint64
	err atomic.Pointer[error] // the first, but the end
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(uint64(n))
	if err != nil && err != io.EOF {
		b.err.CompareAndSwap(nil, &err)
	}
	return n, err
}

// fault is what went wrong with reading the body, if anything did.
func (b *countedBody) fault() error {
	if err := b.err.Load(); err != nil {
		return *err
	}
	return nil
}

// responseWriter fills the exchange from what is written to the client.
type responseWriter struct {
	http.ResponseWriter
	exchange *Exchange
	interim  func(http.Header) // redacts the header of a 1xx
}

func (w *responseWriter) WriteHeader(status int) {
	if status >= 200 || status == http.StatusSwitchingProtocols {
		w.exchange.Status = status
		if _, named := w.Header()["Content-Type"]; !named {
			w.Header()["Content-Type"] = nil // else net/http guesses one
		}
	} else if w.interim != nil {
		w.interim(w.Header())
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *responseWriter) Write(p []byte) (int, error) {
	if w.exchange.Status == 0 {
		w.exchange.Status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.exchange.ResponseBytes += uint64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach Flush and Hijack.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
