// Package proxy forwards the sandbox's HTTP requests: it checks that each is for
// the host its connection was made for, has a plan made for it (which
// credential, if any), carries the plan out and records what happened.
//
//	request ─ check ─ plan ─ inject ─ upstream ─ redact ─ response
//	                    └──── refuse ───────────────────────┘
//
// The way is one for all requests (handle). Its two ends are chosen apart: a
// client speaks HTTP/1 to front or HTTP/2 to net/http's server, an upstream is
// spoken to by a wire in HTTP/1.1 or by net/http's transport. The HTTP/1 ends are
// ours because a request takes one goroutine there and no hand-over, a third of
// what net/http's take; heads are parsed by net/http all the same.
package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http"
)

// Plan is what is done with one request beyond forwarding it. The zero Plan
// forwards it as it is.
type Plan struct {
	Decision   string
	Credential string // id; with Version it separates upstream connections
	Version    uint64
	Lease      string

	Upgrade bool // a request with a credential may change to WebSocket
	// Certificate is what the upstream is shown if it asks who connects; nil: none.
	// It goes with Credential and Version.
	Certificate *tls.Certificate

	// Request edits the request that goes out, when nothing else will change it.
	Request func(*http.Request) error
	// Stands says whether the request may still go out. It is asked when Request and
	// Config.Intend have taken their time, whenever Review is called, and last when there
	// is a connection that the request can be sent over at once. After an error the
	// request is decided anew, or refused with that error where that can't be.
	// nil: nothing is asked.
	Stands func() error
	// Response edits the upstream's answer, before any of it reaches the client.
	Response func(*http.Response) error
	// Messages gives what passes on what follows an upgrade. nil: it passes as it is.
	Messages Messages
	// Interim edits the header of a 1xx answer.
	Interim func(http.Header)
	// Fallback gives what is done instead, once, when the upstream has answered 401 to
	// a request that may be sent again; nil: nothing. What the plan holds stays held.
	Fallback func(context.Context) *Plan
	// Holds says whether the request would still be decided so. It is asked while
	// what the request began goes on, and when Keep is called. nil: it would.
	Holds func() bool
	// Release is called when the exchange is over; it fills in what is known then.
	Release func(*Exchange)
}

// Config is what a Server depends on.
type Config struct {
	Facts func(net.Conn) Facts
	// Plan may be called again for a request that was not sent, since what it was decided
	// by has changed. The Exchange then has what became of the last plan, which was released.
	Plan    func(context.Context, *Exchange, *http.Request) (*Plan, error)
	Explain func(*Exchange, error) *Error // answers for the errors of Plan and Dial; nil for those it does not know
	Finish  func(*Exchange, error)        // called once a request, with what ended it early
	// Recalled is called for a request that is decided anew, as it is by what was decided
	// before. None of it was sent, or perhaps it was and may be twice. nil for nobody.
	Recalled func(x *Exchange, perhaps bool)
	// Intend is called before a request goes out with a credential, and may refuse; nil for nobody.
	Intend func(context.Context, *Exchange) error
	Opened func(*Exchange) error // called before a connection changes its protocol, and may refuse; Finish follows when it ends; nil for nobody
	// Malformed is told what net/http refused of HTTP/2 before it was a request, in
	// a word; which connection it came by net/http does not say. nil for nobody.
	Malformed func(kind string)
	// Tunnel takes over a direct connection that asked by CONNECT to be joined to
	// host and port, and returns when it is done with it.
	Tunnel func(ctx context.Context, c net.Conn, host string, port uint16)
	// Idle is told of a connection whether it waits for a request, or has one under
	// way; nil for nobody.
	Idle  func(c net.Conn, idle bool)
	Dial  DialFunc
	Roots *x509.CertPool // authorities of upstream certificates
	Log   *slog.Logger
}

// Server serves the connections of one sandbox.
type Server struct {
	config     Config
	upstreams  *upstreams
	departures departures
	fronts     fronts
	tunnels    tunnels
	buffers    buffers
	load       load
}

// New makes a Server.
func New(config Config) *Server {
	s := &Server{config: config}
	s.load.begin()
	s.upstreams = newUpstreams(config.Dial, config.Roots, &s.buffers)
	return s
}

// Gather is for the connection below the TLS of a client that speaks HTTP/2: what is
// written to it goes out a moment later, in fewer pieces.
func (s *Server) Gather(c net.Conn) net.Conn { return gather(c, &s.buffers.gathers) }

func (s *Server) idle(c net.Conn, idle bool) {
	if s.config.Idle != nil {
		s.config.Idle(c, idle)
	}
}

// Admit has connections made for the credential versions in these maps too, for requests
// that are decided about by them before the Keep that follows.
func (s *Server) Admit(versions ...map[string]uint64) { s.upstreams.admit(versions...) }

// Keep drops the upstream connections of every credential version that is in none of
// the maps, and does what Review does. None are made for other versions until the next
// Keep or Admit.
func (s *Server) Keep(versions ...map[string]uint64) {
	s.upstreams.keep(versions...)
	s.Review()
}

// Review ends what its Plan's Holds says no more of: connections that changed their
// protocol. Requests that wait to be sent, and by Stands may not be any more, are
// decided anew.
func (s *Server) Review() {
	s.departures.review()
	s.tunnels.review()
}

// DropIdle closes the upstream connections that are idle; those in use are closed
// when their request ends. The next requests connect anew.
func (s *Server) DropIdle() { s.upstreams.close() }
