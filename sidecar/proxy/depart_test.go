package proxy_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/sidecar/proxy"
)

// changingWorld has a credential whose version can be changed, and an upstream that says
// which it was shown, and what came in the body.
type changingWorld struct {
	*world
	protocol string
	version  atomic.Int64 // 0: revoked
	held     chan struct{}
	arrived  chan string // versions
	recalled atomic.Int64
	perhaps  atomic.Int64 // of these that perhaps were sent

	mu    sync.Mutex
	dials []func(net.Conn) net.Conn // what is done to the connections to the upstream; nil: nothing
}

// newChangingWorld makes one whose client speaks protocol, and whose upstream HTTP/2 or not.
func newChangingWorld(t *testing.T, protocol string, http2 bool, options ...func(*proxy.Config)) *changingWorld {
	w := &changingWorld{protocol: protocol, held: make(chan struct{}), arrived: make(chan string, 100)}
	w.version.Store(1)
	w.world = newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		shown := r.Header.Get("Authorization")
		if len(r.TLS.PeerCertificates) > 0 {
			shown += " " + r.TLS.PeerCertificates[0].Subject.CommonName
		}
		w.arrived <- shown
		if r.URL.Path == "/held" {
			http.NewResponseController(rw).Flush()
			<-w.held
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("the upstream reads the body: %v", err)
		}
		io.WriteString(rw, shown+" "+string(body))
	}, append([]func(*proxy.Config){func(c *proxy.Config) {
		facts, dial := c.Facts, c.Dial
		c.Facts = func(conn net.Conn) proxy.Facts {
			f := facts(conn)
			f.HTTP2 = protocol == "HTTP/2"
			return f
		}
		c.Plan = func(context.Context, *proxy.Exchange, *http.Request) (*proxy.Plan, error) { return w.decide() }
		c.Recalled = func(_ *proxy.Exchange, perhaps bool) {
			w.recalled.Add(1)
			if perhaps {
				w.perhaps.Add(1)
			}
		}
		c.Dial = func(ctx context.Context, host string, port uint16) (net.Conn, error) {
			conn, err := dial(ctx, host, port)
			w.mu.Lock()
			defer w.mu.Unlock()
			if err == nil && len(w.dials) > 0 {
				conn = w.dials[0](conn)
				w.dials = w.dials[1:]
			}
			return conn, err
		}
	}}, options...)...)
	if !http2 {
		w.upstream.TLS.NextProtos = []string{"http/1.1"}
	}
	return w
}

func (w *changingWorld) decide() (*proxy.Plan, error) {
	version := w.version.Load()
	if version == 0 {
		return nil, proxy.Errorf(http.StatusForbidden, "revoked", "it was revoked")
	}
	return &proxy.Plan{
		Decision: proxy.Inject, Credential: "c", Version: uint64(version), Upgrade: true,
		Request: func(r *http.Request) error {
			r.Header.Set("Authorization", "v"+strconv.FormatInt(version, 10))
			return nil
		},
		Stands: func() error {
			if w.version.Load() != version {
				return proxy.Errorf(http.StatusServiceUnavailable, "credential_changing", "it was changed")
			}
			return nil
		},
	}, nil
}

// change makes another version the one that is good.
func (w *changingWorld) change(version int64) {
	w.version.Store(version)
	w.Keep(map[string]uint64{"c": uint64(version)})
}

type reply struct {
	text string
	err  error
}

// ask sends a request as a client would, and gives its answer or the code of its refusal.
func (w *changingWorld) ask(t *testing.T, method, path, body string, header ...string) <-chan reply {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols), ExpectContinueTimeout: time.Minute, DisableCompression: true}
	transport.Protocols.SetHTTP1(w.protocol == "HTTP/1.1")
	transport.Protocols.SetUnencryptedHTTP2(w.protocol == "HTTP/2")
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+w.address+path, reader)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "example.com"
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	said := make(chan reply, 1)
	go func() {
		defer transport.CloseIdleConnections()
		response, err := transport.RoundTrip(request)
		if err != nil {
			said <- reply{err: err}
			return
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if code := response.Header.Get("Sallyport-Error"); code != "" {
			text = []byte(code)
		}
		said <- reply{string(text), err}
	}()
	return said
}

// blockedConn gives nothing of what the upstream says before the gate is open.
type blockedConn struct {
	net.Conn
	waits, gate chan struct{}
	once        sync.Once
	ended       chan struct{}
}

func (b *blockedConn) Read(p []byte) (int, error) {
	b.once.Do(func() {
		close(b.waits)
		select {
		case <-b.gate:
		case <-b.ended:
		}
	})
	return b.Conn.Read(p)
}

func (b *blockedConn) Close() error {
	select {
	case <-b.ended:
	default:
		close(b.ended)
	}
	return b.Conn.Close()
}

// block has the handshake of the next connection take until open is called.
func (w *changingWorld) block() (waits <-chan struct{}, open func()) {
	b := &blockedConn{waits: make(chan struct{}), gate: make(chan struct{}), ended: make(chan struct{})}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dials = append(w.dials, func(c net.Conn) net.Conn {
		b.Conn = c
		return b
	})
	return b.waits, func() { close(b.gate) }
}

// TestChangedWhileItWaited: a request that waits for its upstream does not go out with
// what is good no more when it is sent. It goes out by what is good then.
func TestChangedWhileItWaited(t *testing.T) {
	requests := map[string]struct {
		method, body string
		header       []string
	}{
		"GET":     {"GET", "", nil},
		"POST":    {"POST", "hello", nil},
		"long":    {"POST", strings.Repeat("x", 200<<10), nil},
		"expects": {"POST", "hello", []string{"Expect", "100-continue"}},
	}
	for _, way := range []struct {
		protocol string
		http2    bool
	}{{"HTTP/1.1", false}, {"HTTP/2", true}, {"HTTP/2", false}} {
		for name, r := range requests {
			for _, wait := range []string{"handshake", "place"} {
				if wait == "place" && way.http2 {
					continue // as TestChangedWhileTheStreamWaited
				}
				for version, want := range map[int64]string{2: "v2 " + r.body, 0: "revoked"} {
					from := "from " + way.protocol + map[bool]string{true: " to HTTP/2", false: " to HTTP/1.1"}[way.http2]
					t.Run(strings.Join([]string{from, name, wait, want[:2]}, " "), func(t *testing.T) {
						w := newChangingWorld(t, way.protocol, way.http2)
						w.SetUpstreamBounds(time.Minute, time.Minute, 1)
						var said <-chan reply
						var open func()
						if wait == "handshake" {
							var waits <-chan struct{}
							waits, open = w.block()
							said = w.ask(t, r.method, "/", r.body, r.header...)
							<-waits
						} else {
							first := w.ask(t, "GET", "/held", "")
							if shown := <-w.arrived; shown != "v1" {
								t.Fatalf("the first was shown %q", shown)
							}
							defer func() { <-first }()
							said = w.ask(t, r.method, "/", r.body, r.header...)
							for w.Waiting() == 0 {
								time.Sleep(time.Millisecond)
							}
							open = func() { close(w.held) }
						}
						w.change(version)
						open()
						if got := <-said; got.err != nil || got.text != want {
							t.Errorf("answered %.40q, %v, want %.40q", got.text, got.err, want)
						}
						for len(w.arrived) > 0 {
							if shown := <-w.arrived; shown != "v2" {
								t.Errorf("the upstream was shown %q", shown)
							}
						}
						if w.recalled.Load() != 1 || w.Waiting() != 0 {
							t.Errorf("decided anew %d times, %d wait", w.recalled.Load(), w.Waiting())
						}
					})
				}
			}
		}
	}
}

// stuckConn has its long writes wait while stuck is open.
type stuckConn struct {
	net.Conn
	waits, stuck chan struct{}
	once         sync.Once
}

func (s *stuckConn) Write(p []byte) (int, error) {
	if len(p) > 8<<10 {
		s.once.Do(func() { close(s.waits) })
		<-s.stuck
	}
	return s.Conn.Write(p)
}

// TestChangedWhileTheStreamWaited: of two requests on one connection of HTTP/2 the second
// waits for the body of the first, which the upstream does not take.
func TestChangedWhileTheStreamWaited(t *testing.T) {
	w := newChangingWorld(t, "HTTP/2", true)
	stuck := &stuckConn{waits: make(chan struct{}), stuck: make(chan struct{})}
	w.dials = append(w.dials, func(c net.Conn) net.Conn {
		stuck.Conn = c
		return stuck
	})
	first := w.ask(t, "POST", "/", strings.Repeat("x", 200<<10))
	<-stuck.waits
	said := w.ask(t, "GET", "/", "")
	other := w.ask(t, "POST", "/", "hello")
	for w.Waiting() < 2 {
		time.Sleep(time.Millisecond)
	}
	w.change(2)
	if got := <-said; got.err != nil || got.text != "v2 " {
		t.Errorf("answered %q, %v", got.text, got.err)
	}
	// Of this one nobody knows at once whether the upstream will be told it.
	if got := <-other; got.err != nil || got.text != "credential_changing" {
		t.Errorf("what may not be sent twice: answered %q, %v", got.text, got.err)
	}
	// So its record is none of a request that was not sent, and the other's neither.
	<-w.finished
	<-w.finished
	w.world.mu.Lock()
	for _, x := range w.exchanges {
		if x.Method == "POST" && (x.Decision != proxy.Inject || x.Status != http.StatusBadGateway) {
			t.Errorf("the record says %s and %d", x.Decision, x.Status)
		}
	}
	w.world.mu.Unlock()
	if w.perhaps.Load() != 1 {
		t.Errorf("%d that were decided anew were perhaps sent", w.perhaps.Load())
	}
	close(stuck.stuck)
	if got := <-first; got.err != nil || !strings.HasPrefix(got.text, "v1 x") {
		t.Errorf("the first: answered %.40q, %v", got.text, got.err)
	}
	shown := map[string]int{}
	for len(w.arrived) > 0 {
		shown[<-w.arrived]++
	}
	if shown["v1"] != 1 || shown["v2"] != 1 || len(shown) != 2 {
		t.Errorf("the upstream was shown %v", shown)
	}
}

// TestChangedAndGone: a client that leaves is one that left, whatever has changed meanwhile.
func TestChangedAndGone(t *testing.T) {
	w := newChangingWorld(t, "HTTP/1.1", false)
	waits, open := w.block()
	defer open()
	c, err := net.Dial("tcp", w.address)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-waits
	w.version.Store(2) // of which no review tells
	c.Close()
	if x := w.last(t); x.Reason != "client_gone" {
		t.Errorf("the record says %s: %s", x.Decision, x.Reason)
	}
}

// TestChangedBeforeTheSecondTry: what a dead connection is replaced by is waited for too.
func TestChangedBeforeTheSecondTry(t *testing.T) {
	for version, want := range map[int64]string{2: "v2 ", 0: "revoked"} {
		w := newChangingWorld(t, "HTTP/1.1", false)
		died := make(chan struct{})
		w.dials = append(w.dials, func(c net.Conn) net.Conn { return &dyingConn{Conn: c, died: died} })
		if got := <-w.ask(t, "GET", "/", ""); got.text != "v1 " {
			t.Fatalf("answered %q, %v", got.text, got.err)
		}
		<-w.arrived
		close(died)
		waits, open := w.block()
		said := w.ask(t, "GET", "/", "")
		<-waits
		w.change(version)
		open()
		if got := <-said; got.err != nil || got.text != want {
			t.Errorf("answered %q, %v, want %q", got.text, got.err, want)
		}
		for len(w.arrived) > 0 {
			if shown := <-w.arrived; shown != "v2" {
				t.Errorf("the upstream was shown %q", shown)
			}
		}
	}
}

// dyingConn takes what is written when it has died, and is no longer read from.
type dyingConn struct {
	net.Conn
	died chan struct{}
}

func (d *dyingConn) Write(p []byte) (int, error) {
	select {
	case <-d.died:
		d.Conn.Close()
		return 0, net.ErrClosed
	default:
		return d.Conn.Write(p)
	}
}

// TestWebSocketChangedWhileItWaited: so it is with the request that opens one.
func TestWebSocketChangedWhileItWaited(t *testing.T) {
	w := newChangingWorld(t, "HTTP/1.1", false)
	waits, open := w.block()
	said := w.ask(t, "GET", "/", "", "Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")
	<-waits
	w.change(2)
	open()
	if got := <-said; got.text != "v2 " {
		t.Errorf("answered %q, %v", got.text, got.err)
	}
}

// TestOldCertificateIsNotKept: a connection that was authenticated with what is good no
// more is closed when the request that uses it ends, and one that is being made is not
// made: not even then is the old certificate shown.
func TestOldCertificateIsNotKept(t *testing.T) {
	for protocol, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(protocol, func(t *testing.T) {
			var open atomic.Int64
			certificates := []*tls.Certificate{1: clientCertificate(t, "one"), 2: clientCertificate(t, "two")}
			w := newChangingWorld(t, protocol, http2, func(c *proxy.Config) {
				plan := c.Plan
				c.Plan = func(ctx context.Context, x *proxy.Exchange, r *http.Request) (*proxy.Plan, error) {
					p, err := plan(ctx, x, r)
					if err == nil {
						p.Certificate, p.Request = certificates[p.Version], nil
					}
					return p, err
				}
				dial := c.Dial
				c.Dial = func(ctx context.Context, host string, port uint16) (net.Conn, error) {
					conn, err := dial(ctx, host, port)
					if err != nil {
						return nil, err
					}
					open.Add(1)
					return &countedConn{Conn: conn, open: &open}, nil
				}
			})
			w.upstream.TLS.ClientAuth = tls.RequestClientCert
			used := w.ask(t, "GET", "/held", "")
			if shown := <-w.arrived; shown != " one" {
				t.Fatalf("the upstream was shown %q", shown)
			}
			w.change(2)
			close(w.held)
			if got := <-used; got.err != nil {
				t.Error(got.err)
			}
			for open.Load() > 0 {
				time.Sleep(time.Millisecond)
			}
			waits, let := w.block()
			made := w.ask(t, "GET", "/", "")
			<-waits
			w.change(1)
			let()
			if got := <-made; got.err != nil || got.text != " one " {
				t.Errorf("answered %q, %v", got.text, got.err)
			}
			if len(w.arrived) != 1 || open.Load() != 1 {
				t.Errorf("%d requests arrived, %d connections are open", len(w.arrived), open.Load())
			}
		})
	}
}

// countedConn is one of those that are open, until it is closed.
type countedConn struct {
	net.Conn
	open   *atomic.Int64
	closed atomic.Bool
}

func (c *countedConn) Close() error {
	if !c.closed.Swap(true) {
		c.open.Add(-1)
	}
	return c.Conn.Close()
}

// TestConnectionsDroppedWhileTheyAreMade: a request whose connection is not to be made
// any more, as the rules for addresses changed, goes out over another, with all of its body.
func TestConnectionsDroppedWhileTheyAreMade(t *testing.T) {
	for protocol, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		for _, body := range []string{"", "hello", strings.Repeat("x", 200<<10)} {
			w := newChangingWorld(t, protocol, http2)
			waits, open := w.block()
			said := w.ask(t, "POST", "/", body)
			<-waits
			w.DropIdle()
			open()
			if got := <-said; got.err != nil || got.text != "v1 "+body {
				t.Errorf("%s, a body of %d bytes: answered %.40q, %v", protocol, len(body), got.text, got.err)
			}
		}
	}
}
