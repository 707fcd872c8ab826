package gate

import (
	"bytes"
	"net"
	"net/netip"
	"time"
)

// Flow is what is known of one connection before a byte of it was answered.
type Flow struct {
	Client netip.AddrPort
	// Original is the address the client asked for. It is a hint for logs and
	// chooses the port; it never decides where a credential goes, as root in a
	// sandbox can forge it.
	Original netip.AddrPort
	Direct   bool     // it dialled the interception port itself
	TLS      bool     // it began with a TLS ClientHello
	SNI      string   // as the client sent it; empty if it sent none
	ALPN     []string // as the client sent it
	Protocol string   // the ALPN protocol agreed on, or "h2" begun without TLS; empty for none
	Accepted time.Time
}

// conn is a client's connection whose first bytes were read already. It carries
// its flow to whoever holds the connection, through any wrappers that offer
// NetConn.
type conn struct {
	net.Conn
	flow   *Flow
	peeked *bytes.Reader
	closed func() // tells the gate
}

func (c *conn) Close() error {
	c.closed()
	return c.Conn.Close()
}

func (c *conn) Read(p []byte) (int, error) {
	if c.peeked != nil {
		if c.peeked.Len() > 0 {
			return c.peeked.Read(p)
		}
		c.peeked = nil
	}
	return c.Conn.Read(p)
}

// CloseWrite sends the end of our half, so that the other may go on.
func (c *conn) CloseWrite() error { return c.Conn.(*net.TCPConn).CloseWrite() }

// FlowOf gives the flow of a connection that came through a Gate, or nil.
func FlowOf(c net.Conn) *Flow {
	for c != nil {
		if ours, ok := c.(*conn); ok {
			return ours.flow
		}
		wrapper, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		c = wrapper.NetConn()
	}
	return nil
}
