package gate

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// Refusal says why a flow is reset, and what would let it pass.
type Refusal struct {
	Code string
	Hint string
}

// Route is where a flow is passed through to: a name, or the address where there
// is none.
type Route struct {
	Host    string
	Address netip.Addr
	Port    uint16
}

// Verdict is what was decided about a flow: it is refused, or passed through to
// a route, or, if neither is set, handed over.
type Verdict struct {
	Refusal *Refusal
	Route   *Route
}

// admit takes a connection as far as it needs a client that says what it wants.
func (g *Gate) admit(ctx context.Context, c *conn) (net.Conn, *passing, *Refusal) {
	verdict := g.config.Admit(ctx, c.flow)
	if verdict.Refusal != nil {
		return nil, nil, verdict.Refusal
	}
	if err := bound(ctx, c); err != nil {
		return nil, nil, &Refusal{Code: "client_gone", Hint: err.Error()}
	}
	var server *upstream
	if verdict.Route != nil {
		var refusal *Refusal
		if server, refusal = g.awaitFirst(ctx, c, *verdict.Route); refusal != nil {
			return nil, nil, refusal
		}
		if server.spoke || len(c.early) == 0 {
			return nil, g.join(c, server), nil
		}
	}
	passed, through, refusal := g.decide(ctx, c, server)
	if server != nil && (through == nil || through.upstream != server) {
		server.Close()
	}
	return passed, through, refusal
}

// bound gives the client the rest of its time to say what it wants.
func bound(ctx context.Context, c *conn) error {
	if err := c.SetDeadline(c.flow.Accepted.Add(helloTimeout)); err != nil {
		return err
	}
	return ctx.Err() // whoever ended ctx may have set the deadline just before us
}

// decide has the client's first bytes judged. server is what was connected to
// already, if anything.
func (g *Gate) decide(ctx context.Context, c *conn, server *upstream) (net.Conn, *passing, *Refusal) {
	if err := peek(c); err != nil {
		return nil, nil, peekRefusal(err)
	}
	verdict := g.config.Decide(ctx, c.flow, c.look)
	switch {
	case verdict.Refusal != nil:
		return nil, nil, verdict.Refusal
	case verdict.Route == nil:
		passed, refusal := g.secure(ctx, c)
		return passed, nil, refusal
	case server == nil || server.route != *verdict.Route:
		var refusal *Refusal
		if server, refusal = g.connect(ctx, *verdict.Route); refusal != nil {
			return nil, nil, refusal
		}
	}
	return nil, g.join(c, server), nil
}

func clearDeadline(raw net.Conn) *Refusal {
	if err := raw.SetDeadline(time.Time{}); err != nil {
		return &Refusal{Code: "client_gone", Hint: err.Error()}
	}
	return nil
}

func peekRefusal(err error) *Refusal {
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		return &Refusal{Code: "client_gone", Hint: err.Error()}
	}
	return &Refusal{Code: "bad_hello", Hint: err.Error()}
}
