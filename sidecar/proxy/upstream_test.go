package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/sidecar/proxy"
)

func TestUpstreamFaultsAreExplained(t *testing.T) {
	refused := errors.New("refused by the resolver")
	for name, tc := range map[string]struct {
		option func(*proxy.Config)
		status int
		code   string
	}{
		"certificate for another name": {func(c *proxy.Config) {
			c.Facts = func(net.Conn) proxy.Facts { return proxy.Facts{SNI: "example.org", Port: 443, TLS: true} }
		}, 502, "upstream_certificate"},
		"unknown authority": {func(c *proxy.Config) { c.Roots = x509.NewCertPool() }, 502, "upstream_certificate"},
		"nobody listens": {func(c *proxy.Config) {
			c.Dial = func(ctx context.Context, _ string, _ uint16) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", "127.0.0.1:1")
			}
		}, 502, "upstream_unreachable"},
		"an error of ours": {func(c *proxy.Config) {
			c.Dial = func(context.Context, string, uint16) (net.Conn, error) { return nil, refused }
			c.Explain = func(_ *proxy.Exchange, err error) *proxy.Error {
				if errors.Is(err, refused) {
					return proxy.Errorf(403, "forbidden_address", "no")
				}
				return nil
			}
		}, 403, "forbidden_address"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(http.ResponseWriter, *http.Request) { t.Error("the request reached the upstream") }, tc.option)
			host := "example.com"
			if name == "certificate for another name" {
				host = "example.org"
			}
			response := w.raw(t, "GET /?canary HTTP/1.1\r\nHost: "+host+"\r\n\r\n")[0]
			if got := code(t, response); response.StatusCode != tc.status || got != tc.code {
				t.Errorf("status %d, code %s", response.StatusCode, got)
			}
			if x := w.last(t); x.Reason != tc.code {
				t.Errorf("record %+v", x)
			}
		})
	}
}

// TestBrokenAnswerIsNotQuoted has upstreams that echo the credential where only
// an error message of net/http would say it again.
func TestBrokenAnswerIsNotQuoted(t *testing.T) {
	for _, answer := range []string{
		"canary\r\n\r\n",
		"HTTP/1.1 canary\r\n\r\n",
		"HTTP/1.1 200 OK\r\ncanary\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: canary\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: canary\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\ncanary\r\n\r\n",
	} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var serving sync.WaitGroup
		serving.Go(func() {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				io.WriteString(c, answer)
			}
		})
		var said lockedBuffer
		w := newWorld(t, nil, func(c *proxy.Config) {
			c.Facts = func(net.Conn) proxy.Facts { return proxy.Facts{Port: 80} }
			c.Dial = func(ctx context.Context, _ string, _ uint16) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", listener.Addr().String())
			}
			c.Log = slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelDebug}))
			finish := c.Finish
			c.Finish = func(x *proxy.Exchange, err error) {
				fmt.Fprintln(&said, x, err)
				finish(x, err)
			}
		})
		c, err := net.Dial("tcp", w.address)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n")
		io.Copy(io.Discard, c)
		c.Close()
		w.last(t)
		if strings.Contains(said.String(), "canary") {
			t.Errorf("answer %q is quoted:\n%s", answer, said.String())
		}
		listener.Close()
		serving.Wait()
	}
}

// lockedBuffer is a buffer that goroutines share.
type lockedBuffer struct {
	mu sync.Mutex
	strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Builder.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Builder.String()
}

func TestRotationDropsConnections(t *testing.T) {
	var mu sync.Mutex
	conns := map[string]int{}
	w := newWorld(t, func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		conns[r.RemoteAddr]++
		mu.Unlock()
	})
	get := func() {
		if r := w.raw(t, "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")[0]; r.StatusCode != 200 {
			t.Fatal(r.Status)
		}
	}
	w.plan = proxy.Plan{Decision: proxy.Inject, Credential: "c", Version: 1}
	get()
	get()
	w.plan.Version = 2
	w.Keep(map[string]uint64{"c": 2, "d": 2})
	get()
	w.plan.Credential = "d"
	get()
	w.DropIdle()
	get()
	if len(conns) != 4 {
		t.Errorf("upstream connections %v, want one for c/1 (twice), one for c/2, two for d/2", conns)
	}
}

// TestUpstreamProtocol has a client of HTTP/1.1 before upstreams that speak it,
// and that don't.
func TestUpstreamProtocol(t *testing.T) {
	for want, only2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2.0": true} {
		w := newWorld(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) })
		refused := 0
		if only2 {
			w.upstream.TLS.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
				if slices.Contains(hello.SupportedProtos, "h2") {
					return nil, nil
				}
				refused++
				other := w.upstream.TLS.Clone()
				other.NextProtos = []string{"none"} // net/http would speak HTTP/1.1 without ALPN
				return other, nil
			}
		}
		for range 2 {
			response := w.raw(t, "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")[0]
			if body, _ := io.ReadAll(response.Body); string(body) != want {
				t.Errorf("the upstream was spoken to in %s, want %s", body, want)
			}
		}
		if only2 && refused != 1 {
			t.Errorf("the upstream was asked for HTTP/1.1 %d times", refused)
		}
	}
}

func TestExpiredCertificate(t *testing.T) {
	w := newWorld(t, func(http.ResponseWriter, *http.Request) { t.Error("the request reached the upstream") })
	// httptest's certificate is valid until 2084; an upstream of a later time is expired.
	w.SetUpstreamTime(func() time.Time { return time.Date(2090, 1, 1, 0, 0, 0, 0, time.UTC) })
	response := w.raw(t, "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")[0]
	body, _ := io.ReadAll(response.Body)
	if response.StatusCode != 502 || !strings.Contains(string(body), "expired") {
		t.Errorf("status %d: %s", response.StatusCode, body)
	}
}
