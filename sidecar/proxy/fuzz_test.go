package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sallyport/sidecar/proxy"
	"sallyport/sidecar/strict"
)

// between is a Server whose connections are pipes: a fuzz target makes thousands.
type between struct {
	server  *proxy.Server
	clients chan net.Conn
	dialled func(host string, port uint16) net.Conn
	planned func(*proxy.Exchange, *http.Request)
}

func (b *between) Accept() (net.Conn, error) {
	c, ok := <-b.clients
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (b *between) Close() error   { return nil }
func (b *between) Addr() net.Addr { return new(net.TCPAddr) }

// newBetween serves connections for a.test over TLS, as far as the proxy can tell:
// what is dialled answers without, as if TLS had been ended on it.
func newBetween(tb testing.TB, facts proxy.Facts) *between {
	b := &between{clients: make(chan net.Conn), planned: func(*proxy.Exchange, *http.Request) {}}
	b.server = proxy.New(proxy.Config{
		Facts: func(net.Conn) proxy.Facts { return facts },
		Plan: func(_ context.Context, x *proxy.Exchange, r *http.Request) (*proxy.Plan, error) {
			b.planned(x, r)
			return &proxy.Plan{Decision: proxy.Inspect}, nil
		},
		Explain: func(*proxy.Exchange, error) *proxy.Error { return nil },
		Finish:  func(*proxy.Exchange, error) {},
		Dial: func(_ context.Context, host string, port uint16) (net.Conn, error) {
			return b.dialled(host, port), nil
		},
		Log: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := b.server.Serve(ctx, b); err != nil {
			tb.Errorf("Serve: %v", err)
		}
	})
	tb.Cleanup(func() { cancel(); close(b.clients); serving.Wait() })
	return b
}

// say sends bytes and gives all that comes back until the connection is closed.
func (b *between) say(text []byte) []byte {
	client, server := net.Pipe()
	b.clients <- strict.NewConn(server, strict.Limits{})
	go func() {
		_, _ = client.Write(text) // what is not read is not wanted
	}()
	answer, _ := io.ReadAll(client)
	client.Close()
	return answer
}

// script is a client that says what it has to say, whatever is answered, and leaves.
type script struct {
	net.Conn
	text  io.Reader
	ended chan struct{}
	once  sync.Once
}

func (s *script) Read(p []byte) (int, error)       { return s.text.Read(p) }
func (s *script) Write(p []byte) (int, error)      { return len(p), nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) LocalAddr() net.Addr              { return new(net.TCPAddr) }
func (s *script) RemoteAddr() net.Addr             { return new(net.TCPAddr) }

func (s *script) Close() error {
	s.once.Do(func() { close(s.ended) })
	return nil
}

// canned is an upstream that answers the first request with bytes of its own.
func canned(answer []byte) net.Conn {
	ours, theirs := net.Pipe()
	go func() {
		defer ours.Close()
		if _, err := http.ReadRequest(bufio.NewReader(ours)); err == nil {
			_, _ = ours.Write(answer)
		}
	}()
	return theirs
}

// Whatever an upstream answers, the client gets whole responses of HTTP/1.1 and
// nothing after the final one, and it is told where they end: no answer makes two.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nok", "HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.0 200 OK\r\n\r\nuntil the end",
		"HTTP/1.1 103 Early\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad", "HTTP/1.1 200\nA: b\n\nx", "HTTP/1.1 200 OK\r\nA: b\x00c\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", "HTTP/1.1 304 No\r\nContent-Length: 9\r\n\r\n", "HTTP/1.1 200 OK\r\n folded\r\n\r\n", "HTTP/2.0 000\r\n\r\n",
		"HTTP/1.1 100 Go\r\n\r\nHTTP/1.1 100 Go\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: content-length\r\n\r\nx",
	} {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	b := newBetween(f, proxy.Facts{Port: 80})
	f.Fuzz(func(t *testing.T, answer []byte, head bool) {
		b.dialled = func(string, uint16) net.Conn { return canned(answer) }
		method := http.MethodGet
		if head {
			method = http.MethodHead
		}
		said := b.say([]byte(method + " / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"))
		if len(said) == 0 {
			return // it broke off before any of its body, and the connection with it
		}
		r := bufio.NewReader(bytes.NewReader(said))
		for {
			response, err := http.ReadResponse(r, &http.Request{Method: method})
			if err != nil {
				t.Fatalf("%q became %q: %v", answer, said, err)
			}
			if response.StatusCode == http.StatusSwitchingProtocols {
				t.Fatalf("%q became a change of protocol that nobody asked for", answer)
			}
			if response.StatusCode < 200 {
				continue
			}
			_, err = io.Copy(io.Discard, response.Body)
			if rest, _ := io.ReadAll(r); len(rest) > 0 && err == nil {
				t.Fatalf("%q became %q, with %q after the response", answer, said, rest)
			}
			return
		}
	})
}

// Whatever a client says, what goes upstream is what was planned: as many requests,
// each with the host, method and path that the plan was made for.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", "POST /x?y=1;z HTTP/1.1\r\nHost: A.test.:80\r\nContent-Length: 2\r\n\r\nok", "GET /a%2Fb/../c HTTP/1.1\r\nHost: a.test\r\n\r\n",
		"GET http://b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", "GET //b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", "GET /%%2 HTTP/1.1\r\nHost: a.test\r\n\r\n", "GET /a%2Fb|c HTTP/1.1\r\nHost: a.test\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: host, upgrade\r\nUpgrade: h2c\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n", "CONNECT b.test:443 HTTP/1.1\r\nHost: b.test:443\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /2 HTTP/1.1\r\nHost: b.test\r\n\r\n", "GET /\u00e9 HTTP/1.1\r\nHost: a.test\r\nX: y\r\n\r\n", "GET /a?b?c#d HTTP/1.0\r\nHost: a.test\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	b := newBetween(f, proxy.Facts{Port: 80})
	f.Fuzz(func(t *testing.T, text []byte) {
		if bytes.Contains(bytes.ToLower(text), []byte("expect")) {
			return // takes a second, for an upstream that does not say 100
		}
		var mu sync.Mutex
		var planned, seen []string
		b.planned = func(x *proxy.Exchange, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			planned = append(planned, fmt.Sprintf("%s %s:%d %s", r.Method, x.Host, x.Port, r.URL.EscapedPath()))
		}
		var upstreams sync.WaitGroup
		b.dialled = func(host string, port uint16) net.Conn {
			ours, theirs := net.Pipe()
			upstreams.Go(func() {
				defer ours.Close()
				r := bufio.NewReader(ours)
				for {
					request, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					path, _, _ := strings.Cut(request.RequestURI, "?")
					mu.Lock()
					seen = append(seen, fmt.Sprintf("%s %s:%d %s", request.Method, request.Host, port, path))
					mu.Unlock()
					if request.Host != host {
						t.Errorf("%q went to %s for %s", text, host, request.Host)
					}
					if _, err := io.Copy(io.Discard, request.Body); err != nil {
						return
					}
					if _, err := io.WriteString(ours, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"); err != nil {
						return
					}
				}
			})
			return theirs
		}
		client := &script{text: bytes.NewReader(text), ended: make(chan struct{})}
		b.clients <- strict.NewConn(client, strict.Limits{})
		<-client.ended
		b.server.DropIdle()
		upstreams.Wait()
		mu.Lock()
		defer mu.Unlock()
		for i, s := range seen {
			if i >= len(planned) || planned[i] != s {
				t.Fatalf("of %q went upstream\n%q, planned was\n%q", text, seen, planned)
			}
		}
	})
}

// A handshake that may carry a credential is one to a WebSocket server too.
func FuzzWebSocket(f *testing.F) {
	key := base64.StdEncoding.EncodeToString(make([]byte, 16))
	f.Add("GET", "Upgrade", "websocket", key, "13", "a.test")
	f.Add("GET", "keep-alive, Upgrade", "WebSocket", key, "13", "a.test")
	f.Add("POST", "Upgrade", "websocket, h2c", key+" ", "13, 8", "")
	f.Add("GET", "upgrade", "websocket/13", "AAAA", "8", "b.test")
	f.Fuzz(func(t *testing.T, method, connection, upgrade, key, version, extra string) {
		r := httptest.NewRequest(http.MethodGet, "https://a.test/", nil)
		r.Method = method
		r.Header = http.Header{"Connection": {connection}, "Upgrade": {upgrade}, "Sec-Websocket-Key": {key}, "Sec-Websocket-Version": {version}}
		if extra != "" {
			r.Header.Add("Sec-Websocket-Key", extra)
		}
		if proxy.CheckWebSocket(r) != nil {
			return
		}
		w := httptest.NewRecorder()
		_, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err == nil || w.Code != http.StatusNotImplemented { // a recorder is no connection
			t.Fatalf("%q %q %q %q %q: a server answers %d, %v", method, connection, upgrade, key, version, w.Code, err)
		}
	})
}
