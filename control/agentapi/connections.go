package agentapi

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
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
)

// connections is a listener whose connections can be made to end.
type connections struct{ net.Listener }

// Accept implements net.Listener.
func (l connections) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &connection{Conn: conn}, nil
}

// connection is one that can be made to end.
type connection struct {
	net.Conn
	verified atomic.Pointer[identity.Verified] // its certificate; nil: a newcomer's

	mu         sync.Mutex
	calls      int  // under way
	ending     bool // it closes when there are none
	enrolments int  // tried
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
