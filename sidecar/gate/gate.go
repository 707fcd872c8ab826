// Package gate is the sandbox's inner door. It accepts every connection the
// sandbox makes, sees where it wanted to go, and hands over those that are to be
// read, with TLS ended, as a net.Listener. Others it passes through untouched, or
// resets. It knows no HTTP and no names.
//
//	accept ─ original destination ─ peek ─ decide ─┬─ end TLS ─ Listener
//	                  └ the server speaks first ───┼─ dial ─ splice
//	                                               └─ reset
package gate

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Config is what a Gate depends on.
type Config struct {
	// Listener is the interception port, inside the sealed namespace.
	Listener *net.TCPListener
	// OriginalDst gives the address a redirected connection asked for.
	OriginalDst func(*net.TCPConn) (dst netip.AddrPort, direct bool, err error)
	// Admit is asked when the destination is known, before a byte is read. It may
	// name a route, where it is not known yet whether client or server speaks
	// first: if the server does, the flow is passed through to it.
	Admit func(context.Context, *Flow) Verdict
	// Decide is asked when the client has spoken. look gives the flow's first bytes,
	// as often as it is called; they are not taken away.
	Decide func(ctx context.Context, flow *Flow, look func() io.Reader) Verdict
	// Still reports whether a flow that is passed through to a route may go on.
	Still func(*Flow, Route) bool
	// Dial connects to a route. Its refusal says why it can't.
	Dial func(context.Context, Route) (net.Conn, *Refusal)
	// Passing is asked before a flow is passed through, and may refuse it or take its
	// time, which ctx bounds. Passed is told of each that it let pass; nil lets all.
	Passing func(ctx context.Context) *Refusal
	// Certificate gives the leaf for a name.
	Certificate func(ctx context.Context, name string) (*tls.Certificate, error)
	// Gather gives what TLS is written to, once its client is to speak HTTP/2; nil
	// leaves the connection as it is.
	Gather func(net.Conn) net.Conn
	// Refused is told of every flow that did not pass, Passed of every one that was
	// passed through, when it has ended; for logs, metrics and audit.
	Refused func(*Flow, *Refusal)
	Passed  func(*Flow, Passage)
	Log     *slog.Logger
}

const (
	// helloTimeout bounds how long a client may take to say what it wants.
	helloTimeout = 15 * time.Second
	// drainTimeout is how long what is passed through may go on after the end was
	// asked for.
	drainTimeout = 5 * time.Second
)

// Gate accepts and hands over. Serve runs it; Accept gives what is to be read.
type Gate struct {
	config Config
	tls    *tls.Config
	passed chan net.Conn
	done   chan struct{}
	once   sync.Once
	flows  sync.WaitGroup // that are not handed over yet, or passed through
	idle   time.Duration

	places    places
	upstreams atomic.Int64 // connections to routes, begun ones included
	most      int64        // of them

	mu      sync.Mutex
	open    map[*conn]struct{}    // handed over and not closed yet
	passing map[*passing]struct{} // passed through
	closing bool
}

// New makes a Gate.
func New(config Config) *Gate {
	g := &Gate{
		config: config, passed: make(chan net.Conn), done: make(chan struct{}), idle: idleTimeout, most: mostUpstreams,
		places: newPlaces(), open: make(map[*conn]struct{}), passing: make(map[*passing]struct{}),
	}
	g.tls = g.newTLS()
	return g
}

// Serve accepts until ctx ends or the Gate is closed, and waits for what it
// began. What is passed through is cut off after a while.
func (g *Gate) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer g.drain()
	defer cancel()
	defer g.Close()
	stop := context.AfterFunc(ctx, func() { g.Close() })
	defer stop()

	var delay time.Duration
	for {
		raw, err := g.config.Listener.AcceptTCP()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			// Out of descriptors, most likely: waiting gives flows time to end.
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			g.config.Log.Warn("accept failed", "error", err, "retry_in", delay)
			select {
			case <-time.After(delay):
			case <-g.done:
			}
			continue
		}
		delay = 0
		// Nobody is accepted faster than refused: whoever waits for that has a descriptor.
		flow := &Flow{Accepted: time.Now(), Client: addrPort(raw.RemoteAddr())}
		if flow.place = g.places.take(raw); flow.place == nil {
			g.refuse(raw, flow, &Refusal{Code: "too_many_connections", Hint: fmt.Sprintf("%d connections of this sandbox are open, and none is idle; close some", g.places.most)})
			continue
		}
		g.flows.Go(func() { g.receive(ctx, raw, flow) })
	}
}

// drain waits for the flows, for a bounded time.
func (g *Gate) drain() {
	g.mu.Lock()
	g.closing = true
	g.mu.Unlock()
	force := time.AfterFunc(drainTimeout, func() {
		g.endPassing("stopping", func(*passing) bool { return true })
	})
	defer force.Stop()
	g.flows.Wait()
}

// receive takes one connection to where it belongs.
func (g *Gate) receive(ctx context.Context, raw *net.TCPConn, flow *Flow) {
	var err error
	flow.Original, flow.Direct, err = g.config.OriginalDst(raw)
	if err != nil {
		g.refuse(raw, flow, &Refusal{Code: "no_destination", Hint: err.Error()})
		g.places.leave(flow.place)
		return
	}
	if !g.settle(ctx, raw, flow) {
		g.places.leave(flow.place)
	}
}

// Enter takes a connection that was accepted elsewhere, as if it had come from
// the sandbox for what the flow says. It returns when the connection was handed
// over, or has ended.
func (g *Gate) Enter(ctx context.Context, c net.Conn, flow *Flow) {
	g.mu.Lock()
	if g.closing {
		g.mu.Unlock()
		c.Close()
		return
	}
	g.flows.Add(1)
	g.mu.Unlock()
	defer g.flows.Done()
	if within := FlowOf(c); within != nil {
		flow.place = within.place
	}
	g.settle(ctx, c, flow)
}

// settle hands a connection over, passes it through, or resets it. It reports
// whether somebody has the connection now.
func (g *Gate) settle(ctx context.Context, raw net.Conn, flow *Flow) bool {
	life, end := outlive(ctx, handshakeGrace)
	defer end()
	interrupt := context.AfterFunc(life, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	passed, through, refusal := g.admit(ctx, newConn(raw, flow))
	if (!interrupt() || ctx.Err() != nil) && refusal == nil {
		refusal = &Refusal{Code: "closing", Hint: "the sidecar is stopping"}
	}
	if refusal == nil {
		refusal = clearDeadline(raw)
	}
	if refusal != nil && through != nil {
		through.upstream.Close()
	}
	switch {
	case refusal != nil:
		g.refuse(raw, flow, refusal)
	case through != nil:
		flow.place.rest(false)
		g.pass(through)
	default:
		return g.handOver(raw, passed)
	}
	return false
}

func (g *Gate) refuse(raw net.Conn, flow *Flow, refusal *Refusal) {
	g.config.Refused(flow, refusal)
	reset(raw)
}

// handOver gives a connection to whoever accepts, if anybody does.
func (g *Gate) handOver(raw, passed net.Conn) bool {
	g.track(passed)
	select {
	case g.passed <- passed:
		return true
	case <-g.done:
		passed.Close()
		reset(raw)
		return false
	}
}

// Idle notes of a connection that was handed over whether it waits for its client.
// Such ones are closed where there are too many.
func (g *Gate) Idle(c net.Conn, idle bool) {
	if flow := FlowOf(c); flow != nil {
		flow.place.rest(idle)
	}
}

// join makes a flow that is passed through.
func (g *Gate) join(c *conn, server *upstream) *passing {
	c.flow.Dialled = addrPort(server.RemoteAddr()).Addr()
	return &passing{gate: g, client: c, upstream: server}
}

func (g *Gate) track(passed net.Conn) {
	for ; passed != nil; passed = unwrap(passed) {
		if c, ok := passed.(*conn); ok {
			c.closed = func() { g.forget(c) }
			g.mu.Lock()
			g.open[c] = struct{}{}
			g.mu.Unlock()
			return
		}
	}
}

func (g *Gate) forget(c *conn) {
	g.places.leave(c.flow.place)
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.open, c)
}

// Open is how many connections were handed over and are not closed yet, or are
// being passed through.
func (g *Gate) Open() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.open) + len(g.passing)
}

// CloseFlows closes every connection handed over, those included that changed
// their protocol and that no HTTP server waits for any more.
func (g *Gate) CloseFlows() {
	g.mu.Lock()
	open := slices.Collect(maps.Keys(g.open))
	g.mu.Unlock()
	for _, c := range open {
		// Its holder may have closed it meanwhile.
		_ = c.Close()
	}
}

// reset ends a connection so that the client sees an error at once and nothing
// of ours lingers.
func reset(c net.Conn) {
	for inner := c; inner != nil; inner = unwrap(inner) {
		if raw, ok := inner.(*net.TCPConn); ok {
			_ = raw.SetLinger(0) // fails only where the connection is gone already
		}
	}
	_ = c.Close()
}

// Accept gives the next connection that is to be read: a *tls.Conn, or the plain
// connection of a client that spoke no TLS. FlowOf tells its flow.
func (g *Gate) Accept() (net.Conn, error) {
	select {
	case c := <-g.passed:
		return c, nil
	case <-g.done:
		return nil, net.ErrClosed
	}
}

// Close stops accepting. Connections handed over are their holder's.
func (g *Gate) Close() error {
	g.once.Do(func() {
		close(g.done)
		g.config.Listener.Close()
	})
	return nil
}

// Addr is the interception port.
func (g *Gate) Addr() net.Addr { return g.config.Listener.Addr() }

func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
