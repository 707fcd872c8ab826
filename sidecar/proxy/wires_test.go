package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/sidecar/proxy"
)

const plainGet = "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"

// TestConnectionsAreKept has one client ask twice, and a second one, which finds
// the connection of the first.
func TestConnectionsAreKept(t *testing.T) {
	var mu sync.Mutex
	conns := map[string]int{}
	w := newWorld(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		conns[r.RemoteAddr]++
		fmt.Fprint(w, "x")
	})
	w.raw(t, plainGet, plainGet)
	w.raw(t, plainGet)
	if len(conns) != 1 {
		t.Errorf("connections %v, want one for all", conns)
	}
}

// TestUpstreamSessionIsResumed closes each connection and sees that the next one
// did not verify a certificate anew.
func TestUpstreamSessionIsResumed(t *testing.T) {
	resumed := make(chan bool, 2)
	w := newWorld(t, func(w http.ResponseWriter, r *http.Request) {
		resumed <- r.TLS.DidResume
		w.Header().Set("Connection", "close")
		fmt.Fprint(w, "x")
	})
	w.raw(t, plainGet)
	w.raw(t, plainGet)
	if first, second := <-resumed, <-resumed; first || !second {
		t.Errorf("resumed: first %v, second %v", first, second)
	}
}

// TestDeadConnectionIsReplaced has an upstream that drops a kept connection in
// the moment in which it is used again.
func TestDeadConnectionIsReplaced(t *testing.T) {
	for method, want := range map[string]int{"GET": 200, "PUT": 200, "POST": 502} {
		t.Run(method, func(t *testing.T) {
			var served atomic.Int32
			w, done := rawUpstream(t, func(c net.Conn, n int) {
				r := bufio.NewReader(c)
				for i := 0; ; i++ {
					request, err := http.ReadRequest(r)
					if err != nil || n == 0 && i == 1 {
						return // the second request on the first connection
					}
					io.Copy(io.Discard, request.Body)
					served.Add(1)
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
				}
			})
			defer done()
			w.raw(t, plainGet)
			response := w.raw(t, method+" / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 0\r\n\r\n")[0]
			if response.StatusCode != want {
				t.Errorf("status %d, want %d", response.StatusCode, want)
			}
			if want == 502 && code(t, response) != "upstream_failed" {
				t.Errorf("header %v", response.Header)
			}
		})
	}
}

// rawUpstream serves connections by hand, counted from 0, without TLS.
func rawUpstream(t *testing.T, serve func(c net.Conn, n int)) (*world, func()) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for n := 0; ; n++ {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				serve(c, n)
			})
		}
	})
	w := newWorld(t, nil, func(c *proxy.Config) {
		c.Facts = func(net.Conn) proxy.Facts { return proxy.Facts{Port: 80} }
		c.Dial = func(ctx context.Context, _ string, _ uint16) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", listener.Addr().String())
		}
	})
	return w, func() {
		listener.Close()
		w.stop(context.Background())
		serving.Wait()
	}
}

// TestAnswerBeforeTheQuestion has an upstream that sends a second response on a
// kept connection, which must not be taken for that of the next request.
func TestAnswerBeforeTheQuestion(t *testing.T) {
	for name, pause := range map[string]time.Duration{"at once": 0, "later": 50 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			w, done := rawUpstream(t, func(c net.Conn, _ int) {
				if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
					return
				}
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
				time.Sleep(pause)
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
				io.Copy(io.Discard, c)
			})
			defer done()
			for range 3 {
				body, _ := io.ReadAll(w.raw(t, plainGet)[0].Body)
				if string(body) != "x" {
					t.Fatalf("body %q", body)
				}
				time.Sleep(2 * pause)
			}
		})
	}
}

// TestAnswerBeforeTheQuestionInTLS has the second response come in a record of
// its own, together with the first.
func TestAnswerBeforeTheQuestionInTLS(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, nil, func(c *proxy.Config) {
		c.Dial = func(ctx context.Context, _ string, _ uint16) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", listener.Addr().String())
		}
	})
	config := w.upstream.TLS.Clone()
	config.NextProtos = []string{"http/1.1"}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			raw, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer raw.Close()
				gathered := &gathering{Conn: raw}
				c := tls.Server(gathered, config)
				if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
					return
				}
				gathered.hold = true
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
				raw.Write(gathered.held)
				io.Copy(io.Discard, c)
			})
		}
	})
	defer func() {
		listener.Close()
		w.stop(context.Background())
		serving.Wait()
	}()
	for range 3 {
		if body, _ := io.ReadAll(w.raw(t, plainGet)[0].Body); string(body) != "x" {
			t.Fatalf("body %q", body)
		}
	}
}

// gathering holds back what is written.
type gathering struct {
	net.Conn
	hold bool
	held []byte
}

func (g *gathering) Write(p []byte) (int, error) {
	if g.hold {
		g.held = append(g.held, p...)
		return len(p), nil
	}
	return g.Conn.Write(p)
}

func TestSilentUpstreamIsGivenUp(t *testing.T) {
	w, done := rawUpstream(t, func(c net.Conn, _ int) { io.Copy(io.Discard, c) })
	defer done()
	w.SetUpstreamBounds(50*time.Millisecond, time.Second, 2)
	if response := w.raw(t, plainGet)[0]; response.StatusCode != 504 || code(t, response) != "upstream_timeout" {
		t.Errorf("status %d", response.StatusCode)
	}
}

// TestStreamMayPause has a body that comes more slowly than a head may.
func TestStreamMayPause(t *testing.T) {
	w, done := rawUpstream(t, func(c net.Conn, _ int) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na")
		time.Sleep(300 * time.Millisecond)
		io.WriteString(c, "b")
	})
	defer done()
	w.SetUpstreamBounds(100*time.Millisecond, time.Second, 2)
	if body, _ := io.ReadAll(w.raw(t, plainGet)[0].Body); string(body) != "ab" {
		t.Errorf("body %q", body)
	}
}

func TestConnectionsToAHostAreBounded(t *testing.T) {
	var open, most atomic.Int32
	release := make(chan struct{})
	w := newWorld(t, func(http.ResponseWriter, *http.Request) {
		for n, had := open.Add(1), most.Load(); n > had && !most.CompareAndSwap(had, n); had = most.Load() {
		}
		<-release
		open.Add(-1)
	})
	w.SetUpstreamBounds(time.Minute, 200*time.Millisecond, 2)
	var asking sync.WaitGroup
	var busy atomic.Int32
	for range 4 {
		asking.Go(func() {
			response := w.raw(t, plainGet)[0]
			if response.StatusCode == 503 && response.Header.Get("Sallyport-Error") == "upstream_busy" && response.Header.Get("Retry-After") != "" {
				if busy.Add(1) == 2 {
					close(release)
				}
			}
		})
	}
	asking.Wait()
	if most.Load() != 2 || busy.Load() != 2 {
		t.Errorf("%d at once, %d refused; want 2 and 2", most.Load(), busy.Load())
	}
}

// TestClientCertificateIsAskedFor has upstreams that let in only clients with a
// certificate, in both versions of TLS.
func TestClientCertificateIsAskedFor(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, protocol := range []string{"HTTP/1.1", "HTTP/2"} {
			t.Run(tls.VersionName(version)+" "+protocol, func(t *testing.T) {
				w := newWorld(t, func(http.ResponseWriter, *http.Request) { t.Error("the request reached the upstream") },
					func(c *proxy.Config) {
						if facts := c.Facts; protocol == "HTTP/2" {
							c.Facts = func(conn net.Conn) proxy.Facts {
								f := facts(conn)
								f.HTTP2 = true
								return f
							}
						}
					})
				w.upstream.TLS.ClientAuth, w.upstream.TLS.MaxVersion = tls.RequireAnyClientCert, version
				response := getBy(t, w, protocol)
				body, _ := io.ReadAll(response.Body)
				if response.StatusCode != 502 || !strings.Contains(string(body), "client certificate") {
					t.Errorf("status %d: %s", response.StatusCode, body)
				}
			})
		}
	}
}

// getBy asks in HTTP/1.1 or, without TLS, in HTTP/2.
func getBy(t *testing.T, w *world, protocol string) *http.Response {
	t.Helper()
	if protocol == "HTTP/1.1" {
		return w.raw(t, plainGet)[0]
	}
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+w.address, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "example.com"
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	response.Body = io.NopCloser(strings.NewReader(string(text)))
	return response
}
