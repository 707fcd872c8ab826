package proxy

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"sync"
)

// pool is the upstream connections of one poolKey.
type pool struct {
	transport *http.Transport // HTTP/2, and HTTP/1 for clients that speak HTTP/2
	unsecured *http.Transport // HTTP/2 without TLS
	wires     wires
	open      func(ctx context.Context, to place, protocols ...string) (net.Conn, error)

	ctx context.Context // ends when the pool retires
	end context.CancelFunc

	// Of net/http's transports, which keep what becomes idle later, and tell of HTTP/2
	// neither when that is nor let it be closed.
	mu    sync.Mutex
	users int // exchanges under way
	conns map[*tap]struct{}
}

func (u *upstreams) newPool() *pool {
	sessions := tls.NewLRUClientSessionCache(0)
	p := &pool{conns: make(map[*tap]struct{})}
	p.ctx, p.end = context.WithCancel(context.Background())
	p.open = func(ctx context.Context, to place, protocols ...string) (net.Conn, error) {
		return u.connect(ctx, to, sessions, protocols...)
	}
	p.transport = &http.Transport{
		Proxy: nil, // an inherited HTTPS_PROXY would lead the credential elsewhere
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			to, err := placeOf(address, false)
			if err != nil {
				return nil, err
			}
			return p.connect(ctx, to)
		},
		DialTLSContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			to, err := placeOf(address, true)
			if err != nil {
				return nil, err
			}
			c, err := p.connect(ctx, to, "h2", "http/1.1")
			if err != nil {
				return nil, err
			}
			return p.adopt(c)
		},
		ForceAttemptHTTP2:      true,
		ExpectContinueTimeout:  continuePause,
		ResponseHeaderTimeout:  u.bounds.answer,
		IdleConnTimeout:        u.bounds.idle,
		MaxIdleConns:           mostIdle,
		MaxIdleConnsPerHost:    u.bounds.perHost, // net/http keeps 2, and pays a handshake for the rest
		MaxConnsPerHost:        u.bounds.perHost,
		MaxResponseHeaderBytes: maxAnswerHead,
		DisableCompression:     true,
		ReadBufferSize:         upstreamBuffer,
		WriteBufferSize:        upstreamBuffer,
	}
	p.transport.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerConnection: upstreamWindow, SendPingTimeout: pingAfter}
	p.unsecured = p.transport.Clone()
	p.unsecured.Protocols = new(http.Protocols)
	p.unsecured.Protocols.SetUnencryptedHTTP2(true)
	p.wires = wires{
		buffers: u.buffers,
		bounds:  u.bounds,
		connect: func(ctx context.Context, to place) (net.Conn, error) { return p.connect(ctx, to, "http/1.1") },
	}
	return p
}

// connect connects for as long as the pool has not retired: then a client certificate
// is not even shown.
func (p *pool) connect(ctx context.Context, to place, protocols ...string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(p.ctx, cancel)
	defer stop()
	c, err := p.open(ctx, to, protocols...)
	if p.ctx.Err() == nil {
		return c, err
	}
	if err == nil {
		c.Close()
	}
	return nil, errClosedPool
}

// adopt keeps a connection of TLS in mind until it is closed.
func (p *pool) adopt(c net.Conn) (net.Conn, error) {
	below := netConn(c).(*tap)
	below.http2 = c.(*tls.Conn).ConnectionState().NegotiatedProtocol == "h2"
	below.closed = func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, below)
	}
	p.mu.Lock()
	p.conns[below] = struct{}{}
	p.mu.Unlock()
	if p.ctx.Err() != nil {
		c.Close()
		return nil, errClosedPool
	}
	return c, nil
}

// enter is for an exchange that begins, and leave for when it is over.
func (p *pool) enter() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.users++
}

func (p *pool) leave() {
	p.mu.Lock()
	p.users--
	p.mu.Unlock()
	if p.ctx.Err() != nil {
		p.close()
	}
}

// retire closes the idle connections, and the others when nobody uses them any more.
func (p *pool) retire() {
	p.end()
	p.close()
}

func (p *pool) close() {
	p.wires.close()
	p.transport.CloseIdleConnections()
	p.unsecured.CloseIdleConnections()
	var left []*tap
	p.mu.Lock()
	if p.users == 0 {
		for c := range p.conns {
			left = append(left, c)
		}
	}
	p.mu.Unlock()
	for _, c := range left {
		c.Close()
	}
}

// roundTrip sends a request by net/http.
func (p *pool) roundTrip(ctx context.Context, t *travel, out *http.Request) (*http.Response, error) {
	p.enter()
	t.hold(p.leave)
	ctx, d := t.leaving.wait(ctx, t.plan.Stands)
	if d != nil {
		t.hold(d.recall)
	}
	if out.GetBody == nil {
		if release := canReplay(out); release != nil {
			t.hold(release)
		}
	}
	transport := p.transport
	if t.HTTP2 && !t.TLS {
		transport = p.unsecured
	}
	var fresh net.Conn
	var passing sync.Mutex // a 1xx on, which net/http has in a goroutine of its own
	over := false          // none is of this plan any more
	response, err := transport.RoundTrip(out.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			if fresh = info.Conn; info.Reused {
				fresh = nil
			}
			switch {
			case d == nil:
				t.depart()
			case transport == p.unsecured || isHTTP2(info.Conn):
				d.offer()
			case d.leave() != nil:
				info.Conn.Close() // net/http would send it all the same, over a connection of its own
			default:
				t.depart()
			}
		},
		WroteHeaders: func() {
			d.left()
			t.depart()
		},
		Got1xxResponse: func(status int, header textproto.MIMEHeader) error {
			passing.Lock()
			defer passing.Unlock()
			if !over {
				t.interim(status, http.Header(header))
			}
			return nil
		},
	})))
	if err == nil {
		d.left() // which net/http perhaps has not said yet
		return response, nil
	}
	passing.Lock()
	over = true
	passing.Unlock()
	if fresh != nil && ctx.Err() == nil {
		err = blame(fresh, err)
	}
	return nil, d.end(err)
}

// isHTTP2 reports whether HTTP/2 was agreed on for a connection.
func isHTTP2(c net.Conn) bool {
	below, ok := netConn(c).(*tap)
	return ok && below.http2
}
