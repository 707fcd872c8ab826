package gate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// idleTimeout is how long a flow that is passed through may be silent.
const idleTimeout = time.Hour

// mostUpstreams bounds the connections of one sandbox to routes. Each flow takes
// two descriptors and each direction that is spliced a pipe, so at most six: with
// 1,024 most of the worker's descriptors are left for requests, and for the control plane.
const mostUpstreams = 1024

// Passage is a flow that was passed through, when it has ended.
type Passage struct {
	Route    Route
	Sent     uint64 // bytes to the server
	Received uint64 // bytes to the client
	Duration time.Duration
	Reason   string // why it was cut off; empty if client or server ended it
}

// upstream is a connection to a route.
type upstream struct {
	net.Conn
	route Route
	early []byte // what it said already
	spoke bool   // before the client did
	leave func() // gives its place to another, once
}

// Close closes the connection and gives its place to another.
func (u *upstream) Close() error {
	defer u.leave()
	return u.Conn.Close()
}

func (g *Gate) connect(ctx context.Context, route Route) (*upstream, *Refusal) {
	if g.upstreams.Add(1) > g.most {
		g.upstreams.Add(-1)
		return nil, &Refusal{Code: "too_many_flows", Hint: fmt.Sprintf("%d connections of this sandbox are passed through already; close some, or let an idle one end", g.most)}
	}
	leave := sync.OnceFunc(func() { g.upstreams.Add(-1) })
	c, refusal := g.config.Dial(ctx, route)
	if refusal != nil {
		leave()
		return nil, refusal
	}
	return &upstream{Conn: c, route: route, leave: leave}, nil
}

// passing is a flow that is passed through.
type passing struct {
	gate     *Gate
	client   *conn
	upstream *upstream

	sent, received atomic.Int64
	last           atomic.Int64 // when bytes went either way, since the epoch in nanoseconds
	once           sync.Once
	reason         string
	cut            context.CancelFunc // called when the reason is known
}

// pass joins client and upstream until both have ended, or the flow is cut off.
func (g *Gate) pass(p *passing) {
	start := time.Now()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p.cut = cancel
	g.mu.Lock()
	g.passing[p] = struct{}{}
	g.mu.Unlock()
	// What was decided may have changed meanwhile: whoever changes it looks at what
	// is passing afterwards.
	if !g.config.Still(p.client.flow, p.upstream.route) {
		p.end("policy_changed")
	}
	refusal := p.ask(ctx)
	if refusal == nil {
		p.run()
	}
	g.mu.Lock()
	delete(g.passing, p)
	g.mu.Unlock()
	if refusal != nil {
		p.upstream.Close()
		g.refuse(p.client, p.client.flow, refusal)
		return
	}
	g.config.Passed(p.client.flow, Passage{
		Route: p.upstream.route, Sent: uint64(p.sent.Load()), Received: uint64(p.received.Load()),
		Duration: time.Since(start), Reason: p.reason,
	})
}

// ask asks whether the flow may begin, until it is cut off.
func (p *passing) ask(ctx context.Context) *Refusal {
	if p.gate.config.Passing == nil {
		return nil
	}
	refusal := p.gate.config.Passing(ctx)
	if refusal != nil && ctx.Err() != nil {
		return &Refusal{Code: p.reason, Hint: "it was cut off before it began"}
	}
	return refusal
}

// Review cuts off what is passed through and may not go on.
func (g *Gate) Review() {
	g.endPassing("policy_changed", func(p *passing) bool {
		return !g.config.Still(p.client.flow, p.upstream.route)
	})
}

func (g *Gate) endPassing(reason string, which func(*passing) bool) {
	g.mu.Lock()
	all := slices.Collect(maps.Keys(g.passing))
	g.mu.Unlock()
	for _, p := range all {
		if which(p) {
			p.end(reason)
		}
	}
}

// end cuts the flow off.
func (p *passing) end(reason string) {
	p.once.Do(func() {
		p.reason = reason
		p.cut()
		if reason != "" {
			reset(p.client)
		}
		p.client.Close()
		p.upstream.Close()
	})
}

func (p *passing) run() {
	p.last.Store(time.Now().UnixNano())
	client, server := p.ends()
	said := p.client.early
	p.client.early = nil
	var both sync.WaitGroup
	both.Go(func() { p.copy(server, client, said, &p.sent) })
	both.Go(func() { p.copy(client, server, p.upstream.early, &p.received) })
	both.Wait()
	p.end("")
}

// ends are the connections to copy between: where they are of TCP, the kernel
// can move the bytes without our seeing them (splice(2)).
func (p *passing) ends() (client, server net.Conn) {
	client, server = p.client, p.upstream.Conn
	if raw, ok := p.client.Conn.(*net.TCPConn); ok {
		return raw, server
	}
	return client, server
}

// copy passes bytes on until from ends its half, and then ends that of to.
func (p *passing) copy(to, from net.Conn, early []byte, count *atomic.Int64) {
	n, err := to.Write(early)
	count.Add(int64(n))
	for err == nil {
		if err = from.SetReadDeadline(time.Now().Add(p.gate.idle / 2)); err != nil {
			break
		}
		var n int64
		n, err = io.Copy(to, from)
		count.Add(n)
		now := time.Now().UnixNano()
		if n > 0 {
			p.last.Store(now)
		}
		switch {
		case err == nil:
			if half, ok := to.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
				return
			}
			p.end("")
			return
		case !errors.Is(err, os.ErrDeadlineExceeded):
		case time.Duration(now-p.last.Load()) >= p.gate.idle:
			p.end("idle")
		default:
			err = nil
		}
	}
	p.end("")
}

// awaitFirst connects to route and waits for whoever speaks first, client or
// server. What they say is kept.
func (g *Gate) awaitFirst(ctx context.Context, c *conn, route Route) (*upstream, *Refusal) {
	server, refusal := g.connect(ctx, route)
	if refusal != nil {
		return nil, refusal
	}
	heard := make(chan error, 1)
	go func() {
		buffer := make([]byte, 4<<10)
		n, err := server.Read(buffer)
		server.early = buffer[:n]
		_ = c.SetReadDeadline(time.Unix(1, 0)) // fails only where the client is gone
		heard <- err
	}()
	var first [1]byte
	_, clientErr := c.look().Read(first[:])
	if !errors.Is(clientErr, io.EOF) { // that of a client that only listens says nothing
		_ = server.SetReadDeadline(time.Unix(1, 0))
	}
	serverErr := <-heard
	server.spoke = len(server.early) > 0 && len(c.early) == 0
	err := errors.Join(bound(ctx, c), server.SetReadDeadline(time.Time{}))
	switch {
	case err != nil, clientErr != nil && !errors.Is(clientErr, io.EOF) && !errors.Is(clientErr, os.ErrDeadlineExceeded):
		server.Close()
		return nil, &Refusal{Code: "client_gone", Hint: "the client left before anybody spoke"}
	case serverErr != nil && !errors.Is(serverErr, os.ErrDeadlineExceeded) && !errors.Is(serverErr, io.EOF):
		server.Close()
		return nil, &Refusal{Code: "upstream_failed", Hint: serverErr.Error()}
	}
	return server, nil
}
