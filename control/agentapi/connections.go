package agentapi

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"connectrpc.com/connect"

	"sallyport/control/identity"
)

const (
	// newcomerFor is how long a connection stays whose certificate is not of our
	// CA: long enough to enrol.
	newcomerFor = 15 * time.Second
	// mostEnrolments is how many join tokens may be tried on a connection. A sidecar
	// has one; whoever guesses pays with a handshake for each few.
	mostEnrolments = 3
	// answerFor is how long an answer may take to leave once the call is over.
	answerFor = time.Second
	// reservedFiles are the descriptors that connections of sidecars leave to
	// everything else: the admin API, metrics, the database, files.
	reservedFiles   = 256
	mostConnections = 100_000
)

// connectionLimit is how many sidecars may be connected at once, as many as
// descriptors allow.
func connectionLimit() int {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil || files.Cur > mostConnections {
		return mostConnections
	}
	return max(int(files.Cur)-reservedFiles, int(files.Cur)/2)
}

// gate bounds the connections that a listener gives, so that those who hold them
// leave descriptors to everybody else. At the bound it waits; an address that
// holds half of all is refused.
type gate struct {
	net.Listener
	places chan struct{} // holds one for each connection
	mu     sync.Mutex
	closed chan struct{}
	held   map[netip.Addr]int
}

func newGate(l net.Listener, limit int) *gate {
	return &gate{Listener: l, places: make(chan struct{}, limit), closed: make(chan struct{}), held: make(map[netip.Addr]int)}
}

// Accept implements net.Listener.
func (g *gate) Accept() (net.Conn, error) {
	for {
		select {
		case g.places <- struct{}{}:
		case <-g.closed:
			return nil, net.ErrClosed
		}
		conn, err := g.Listener.Accept()
		if err != nil {
			<-g.places
			return nil, err
		}
		from := source(conn)
		if g.take(from) {
			return &connection{Conn: conn, leave: sync.OnceFunc(func() { g.release(from) })}, nil
		}
		conn.Close()
		<-g.places
	}
}

// Close implements net.Listener.
func (g *gate) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.closed:
	default:
		close(g.closed)
	}
	return g.Listener.Close()
}

func source(conn net.Conn) netip.Addr {
	if a, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

func (g *gate) take(from netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held[from] >= max(1, cap(g.places)/2) {
		return false
	}
	g.held[from]++
	return true
}

func (g *gate) release(from netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held[from]--; g.held[from] == 0 {
		delete(g.held, from)
	}
	<-g.places
}

// connection is one that can be made to end.
type connection struct {
	net.Conn
	leave    func()
	verified atomic.Pointer[identity.Verified] // its certificate; nil: a newcomer's

	mu         sync.Mutex
	calls      int  // under way
	ending     bool // it closes when there are none
	enrolments int  // tried
}

// Close implements net.Conn.
func (c *connection) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

// end closes the connection when the calls under way are over.
func (c *connection) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ending = true
	if c.calls == 0 {
		c.Close()
	}
}

// begin is false if the connection takes no more calls.
func (c *connection) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending {
		return false
	}
	c.calls++
	return true
}

// mayEnrol counts the join tokens that are tried.
func (c *connection) mayEnrol() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.enrolments++
	return c.enrolments <= mostEnrolments
}

func (c *connection) done() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls--; c.ending && c.calls == 0 {
		time.AfterFunc(answerFor, func() { c.Close() })
	}
}

type connectionKey struct{}

// withConnection is http.Server.ConnContext.
func withConnection(ctx context.Context, conn net.Conn) context.Context {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	return context.WithValue(ctx, connectionKey{}, conn)
}

// withCalls counts the calls of each connection.
func withCalls(next http.Handler) http.Handler {
	writer := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(connectionKey{}).(*connection); ok {
			if !c.begin() {
				writer.Write(w, r, connect.NewError(connect.CodeUnavailable, errors.New("this connection is ending; open another")))
				return
			}
			defer c.done()
		}
		next.ServeHTTP(w, r)
	})
}
