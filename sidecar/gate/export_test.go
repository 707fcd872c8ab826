package gate

import (
	"io"
	"net"
	"time"
)

// Peek peeks at a connection and gives what it saw, and what is read afterwards.
func Peek(c net.Conn) (*Flow, []byte, error) {
	peeked := newConn(c, &Flow{})
	if err := peek(peeked); err != nil {
		return peeked.flow, nil, err
	}
	rest, err := io.ReadAll(peeked)
	return peeked.flow, rest, err
}

// SetIdle changes how long a flow that is passed through may be silent.
func (g *Gate) SetIdle(d time.Duration) { g.idle = d }

// SetMostPlaces changes how many connections of the sandbox there may be.
func (g *Gate) SetMostPlaces(n int) {
	g.places.mu.Lock()
	defer g.places.mu.Unlock()
	g.places.most = n
}

// Places is how many there are.
func (g *Gate) Places() int {
	g.places.mu.Lock()
	defer g.places.mu.Unlock()
	return len(g.places.taken)
}

// SetMost changes how many connections to routes there may be.
func (g *Gate) SetMost(n int64) { g.most = n }
