package gate

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"
)

// Flow is what is known of one connection before a byte of it was answered.
type Flow struct {
	Client netip.AddrPort
	// Original is the address the client asked for. It is a hint for logs and
	// chooses the port; it never decides where a credential goes, as root in a
	// sandbox can forge it. Of a flow that was asked for by CONNECT with a name,
	// only the port is known.
	Original netip.AddrPort
	Connect  string     // the name that a CONNECT asked for; empty for none
	Direct   bool       // it dialled the interception port itself
	TLS      bool       // it began with a TLS ClientHello
	SNI      string     // as the client sent it; empty if it sent none
	ALPN     []string   // as the client sent it
	Versions []uint16   // of TLS, as the client sent them
	Name     string     // the host that it was decided to be for; empty for none
	Protocol string     // the ALPN protocol agreed on, or "h2" begun without TLS; empty for none
	Dialled  netip.Addr // what was connected to, to pass it through; zero for nothing
	Accepted time.Time

	place *place // of the connection; nil if it was not accepted here
}

// conn is a client's connection whose first bytes were read already. It carries
// its flow to whoever holds the connection, through any wrappers that offer
// NetConn.
type conn struct {
	net.Conn
	flow   *Flow
	early  []byte // read of Conn, and not yet taken
	alert  *alert // what was read last, while TLS is agreed on
	closed func() // tells the gate
}

func newConn(c net.Conn, flow *Flow) *conn {
	return &conn{Conn: c, flow: flow, closed: func() {}}
}

// NetConn is the connection within.
func (c *conn) NetConn() net.Conn { return c.Conn }

func (c *conn) Close() error {
	c.closed()
	return c.Conn.Close()
}

func (c *conn) Read(p []byte) (int, error) {
	if len(c.early) == 0 {
		n, err := c.Conn.Read(p)
		if c.alert != nil {
			c.alert.see(p[:n])
		}
		return n, err
	}
	n := copy(p, c.early)
	if c.early = c.early[n:]; len(c.early) == 0 {
		c.early = nil
	}
	return n, nil
}

// look gives the connection's bytes from the first on, up to a bound. It takes
// none away: who reads the connection afterwards gets them again.
func (c *conn) look() io.Reader {
	return io.MultiReader(bytes.NewReader(c.early), lookAhead{c})
}

// maxLook bounds what a client may send before it is decided about. A TLS hello
// with ML-KEM key shares is about 2 KiB.
const maxLook = 64 << 10

var errLooked = errors.New("the client said too much before it could be decided what it wants")

type lookAhead struct{ *conn }

func (l lookAhead) Read(p []byte) (int, error) {
	if len(l.early) >= maxLook {
		return 0, errLooked
	}
	n, err := l.Conn.Read(p[:min(len(p), maxLook-len(l.early))])
	l.early = append(l.early, p[:n]...)
	return n, err
}

// CloseWrite sends the end of our half, so that the other may go on.
func (c *conn) CloseWrite() error {
	for inner := c.Conn; inner != nil; inner = unwrap(inner) {
		if half, ok := inner.(interface{ CloseWrite() error }); ok {
			return half.CloseWrite()
		}
	}
	return errors.ErrUnsupported
}

// FlowOf gives the flow of a connection that came through a Gate, or nil.
func FlowOf(c net.Conn) *Flow {
	for ; c != nil; c = unwrap(c) {
		if ours, ok := c.(*conn); ok {
			return ours.flow
		}
	}
	return nil
}

// unwrap gives the connection within c, or nil.
func unwrap(c net.Conn) net.Conn {
	if wrapper, ok := c.(interface{ NetConn() net.Conn }); ok {
		return wrapper.NetConn()
	}
	return nil
}
