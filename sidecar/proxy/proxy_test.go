package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sallyport/sidecar/proxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a Server between a plain test client and a TLS upstream. httptest's
// certificate is for example.com.
type world struct {
	*proxy.Server
	upstream *httptest.Server
	address  string
	plan     proxy.Plan

	mu        sync.Mutex
	exchanges []proxy.Exchange
	finished  chan struct{}
	stop      func(context.Context) bool // asks for the end, and says whether it came in time
}

func newWorld(t *testing.T, handler http.HandlerFunc, options ...func(*proxy.Config)) *world {
	t.Helper()
	w := &world{finished: make(chan struct{}, 1000)}
	w.upstream = httptest.NewUnstartedServer(handler)
	w.upstream.EnableHTTP2 = true
	w.upstream.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	w.upstream.StartTLS()
	t.Cleanup(w.upstream.Close)
	roots := x509.NewCertPool()
	roots.AddCert(w.upstream.Certificate())
	config := proxy.Config{
		Facts: func(net.Conn) proxy.Facts { return proxy.Facts{SNI: "example.com", Port: 443, TLS: true} },
		Plan: func(context.Context, *proxy.Exchange, *http.Request) (*proxy.Plan, error) {
			plan := w.plan
			return &plan, nil
		},
		Explain: func(*proxy.Exchange, error) *proxy.Error { return nil },
		Opened:  func(*proxy.Exchange) error { return nil },
		Finish: func(x *proxy.Exchange, _ error) {
			w.mu.Lock()
			w.exchanges = append(w.exchanges, *x)
			w.mu.Unlock()
			w.finished <- struct{}{}
		},
		Dial: func(ctx context.Context, _ string, _ uint16) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", w.upstream.Listener.Addr().String())
		},
		Roots: roots,
		Log:   slog.New(slog.DiscardHandler),
	}
	for _, option := range options {
		option(&config)
	}
	w.Server = proxy.New(config)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.address = listener.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := w.Serve(ctx, listener); err != nil {
			t.Errorf("Serve: %v", err)
		}
	}()
	w.stop = func(bound context.Context) bool {
		cancel()
		select {
		case <-ended:
			return true
		case <-bound.Done():
			return false
		}
	}
	t.Cleanup(func() { w.stop(context.Background()) })
	return w
}

// raw sends bytes as they are and reads one response a request.
func (w *world) raw(t *testing.T, requests ...string) []*http.Response {
	t.Helper()
	c, err := net.Dial("tcp", w.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	var responses []*http.Response
	for _, request := range requests {
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
		response, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("after %q: %v", request, err)
		}
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		response.Body = io.NopCloser(strings.NewReader(string(body)))
		responses = append(responses, response)
	}
	return responses
}

func (w *world) last(t *testing.T) proxy.Exchange {
	t.Helper()
	<-w.finished
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.exchanges[len(w.exchanges)-1]
}

func code(t *testing.T, response *http.Response) string {
	t.Helper()
	var body struct {
		Error struct {
			Code, Message string
			RequestID     string `json:"request_id"`
		}
	}
	if err := json.NewDecoder(response.Body).Decode(&body); err != nil {
		t.Fatalf("status %d: %v", response.StatusCode, err)
	}
	if body.Error.Code != response.Header.Get("Sallyport-Error") || body.Error.Message == "" || body.Error.RequestID == "" {
		t.Errorf("error %+v, header %q", body.Error, response.Header.Get("Sallyport-Error"))
	}
	return body.Error.Code
}

func TestHostMustBeTheConnections(t *testing.T) {
	w := newWorld(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Host) })
	for host, want := range map[string]int{
		"example.com":      200,
		"EXAMPLE.com.:443": 200,
		"evil.test":        421,
		"example.com:8443": 421,
		"a,b":              400,
		"127.0.0.1":        400,
		"example.com:":     200,
		"exa_mple.com":     400,
		"[::1]:443":        400,
	} {
		response := w.raw(t, "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n")[0]
		if response.StatusCode != want {
			t.Errorf("Host %q: status %d, want %d", host, response.StatusCode, want)
		}
	}
	// The second request of a connection is not covered by the first.
	both := w.raw(t, "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n", "GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n")
	if both[0].StatusCode != 200 || both[1].StatusCode != 421 || code(t, both[1]) != "misdirected" {
		t.Errorf("statuses %d, %d", both[0].StatusCode, both[1].StatusCode)
	}
}

func TestRequestPassesAsItWasSent(t *testing.T) {
	got := make(chan *http.Request, 1)
	w := newWorld(t, func(_ http.ResponseWriter, r *http.Request) { got <- r })
	w.plan.Request = func(r *http.Request) error {
		r.Header.Set("Authorization", "Bearer injected")
		return nil
	}
	w.raw(t, "GET /a%2Fb;x=1//c?x=1;y=2&%zz&&q= HTTP/1.1\r\nHost: example.com\r\nConnection: authorization, x-hop\r\nX-Hop: 1\r\nX-Forwarded-For: 192.0.2.9\r\nX-Kept: 1\r\n\r\n")
	r := <-got
	if r.RequestURI != "/a%2Fb;x=1//c?x=1;y=2&%zz&&q=" {
		t.Errorf("target %q", r.RequestURI)
	}
	if r.Header.Get("Authorization") != "Bearer injected" {
		t.Error("a Connection field took the injected header away")
	}
	if r.Header.Get("X-Hop") != "" || r.Header.Get("X-Kept") != "1" || r.Header.Get("X-Forwarded-For") != "192.0.2.9" {
		t.Errorf("header %v", r.Header)
	}
	if _, found := r.Header["User-Agent"]; found {
		t.Error("a User-Agent was made up")
	}
	if _, found := r.Header["Accept-Encoding"]; found {
		t.Error("an Accept-Encoding was made up")
	}
	if x := w.last(t); x.Path != "/a%2Fb;x=1//c" || strings.Contains(fmt.Sprintf("%+v", x), "zz") {
		t.Errorf("record %+v", x)
	}
}

func TestContentTypeIsNotMadeUp(t *testing.T) {
	w := newWorld(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = nil
		fmt.Fprint(w, "text")
	})
	response := w.raw(t, "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")[0]
	if got, found := response.Header["Content-Type"]; found {
		t.Errorf("Content-Type %q", got)
	}
}

func TestStreamsBothWays(t *testing.T) {
	w := newWorld(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Trailer", "X-Sum")
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		lines := bufio.NewScanner(r.Body)
		for lines.Scan() {
			fmt.Fprintf(w, "data: %s\n\n", lines.Text())
			http.NewResponseController(w).Flush()
		}
		w.Header().Set("X-Sum", "done")
	})
	c, err := net.Dial("tcp", w.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n4\r\none\n\r\n")
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	events := bufio.NewReader(response.Body)
	for i, word := range []string{"one", "two", "three"} {
		if i > 0 { // each is sent only when the one before has come back
			fmt.Fprintf(c, "%x\r\n%s\n\r\n", len(word)+1, word)
		}
		if line, err := events.ReadString('\n'); err != nil || line != "data: "+word+"\n" {
			t.Fatalf("event %q, %v", line, err)
		}
		events.ReadString('\n')
	}
	fmt.Fprint(c, "0\r\n\r\n")
	if _, err := io.ReadAll(events); err != nil {
		t.Fatal(err)
	}
	if response.Trailer.Get("X-Sum") != "done" {
		t.Errorf("trailers %v", response.Trailer)
	}
	if x := w.last(t); x.RequestBytes != 14 || x.ResponseBytes == 0 || x.Status != 200 {
		t.Errorf("record %+v", x)
	}
}

func TestInterimAnswerIsEdited(t *testing.T) {
	w := newWorld(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "canary")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Link", "final")
		w.WriteHeader(http.StatusOK)
	})
	w.plan.Interim = func(h http.Header) { h.Set("Link", "edited") }
	c, err := net.Dial("tcp", w.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n")
	all, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	if s := string(all); !strings.HasPrefix(s, "HTTP/1.1 103") || !strings.Contains(s, "edited") || strings.Contains(s, "canary") || !strings.Contains(s, "final") {
		t.Errorf("answer:\n%s", s)
	}
}

func TestCredentialIsNotEchoedByMethodOrUpgrade(t *testing.T) {
	w := newWorld(t, func(http.ResponseWriter, *http.Request) { t.Error("the request reached the upstream") })
	w.plan = proxy.Plan{Decision: proxy.Inject, Credential: "c", Version: 1}
	for _, request := range []string{
		"TRACE / HTTP/1.1\r\nHost: example.com\r\n\r\n",
		"track / HTTP/1.1\r\nHost: example.com\r\n\r\n",
		"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: example.com\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
	} {
		response := w.raw(t, request)[0]
		code(t, response)
		if x := w.last(t); x.Decision != proxy.Refuse || x.Status < 400 {
			t.Errorf("%q: record %+v", request, x)
		}
	}
}

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

func TestTargetIsAPlainPath(t *testing.T) {
	w := newWorld(t, func(http.ResponseWriter, *http.Request) { t.Error("the request reached the upstream") })
	for _, target := range []string{
		"x:http://evil.test/steal", "http://evil.test/", "https://example.com/", "x:evil", "evil", "*", "", "/a b", "/a?b c HTTP/1.0", "/a#b", "/a?b#c", "/a\\b", "/é", "/a?\x00",
	} {
		// HTTP/2 gives the handler any text as the target.
		r := httptest.NewRequest("GET", "/", nil)
		r.RequestURI, r.ProtoMajor, r.Host = target, 2, "example.com"
		if u, err := url.ParseRequestURI(target); err == nil {
			r.URL = u
		}
		r = r.WithContext(proxy.WithFacts(r.Context(), proxy.Facts{SNI: "example.com", Port: 443, TLS: true, HTTP2: true}))
		recorder := httptest.NewRecorder()
		w.ServeHTTP(recorder, r)
		if recorder.Code != 400 || recorder.Header().Get("Sallyport-Error") != "bad_target" {
			t.Errorf("target %q: status %d, %s", target, recorder.Code, recorder.Header().Get("Sallyport-Error"))
		}
		if x := w.last(t); x.Decision != proxy.Refuse || x.Host != "example.com" {
			t.Errorf("target %q: record %+v", target, x)
		}
	}
}

func TestPathKeepsItsSpelling(t *testing.T) {
	got := make(chan string, 1)
	planned := ""
	w := newWorld(t, func(_ http.ResponseWriter, r *http.Request) { got <- r.RequestURI }, func(c *proxy.Config) {
		plan := c.Plan
		c.Plan = func(ctx context.Context, x *proxy.Exchange, r *http.Request) (*proxy.Plan, error) {
			planned = r.URL.EscapedPath()
			return plan(ctx, x, r)
		}
	})
	for sent, want := range map[string]string{
		"/projects/group%2Fproj/x{y}": "/projects/group%2Fproj/x%7By%7D",
		"/a%2fb|c^d":                  "/a%2fb%7Cc%5Ed",
		"/%7e/%41;v=1/~?{q}":          "/%7e/%41;v=1/~?{q}",
	} {
		w.raw(t, "GET "+sent+" HTTP/1.1\r\nHost: example.com\r\n\r\n")
		if path := <-got; path != want {
			t.Errorf("%s arrived as %s, want %s", sent, path, want)
		}
		want, _, _ = strings.Cut(want, "?")
		if x := w.last(t); x.Path != want || planned != want {
			t.Errorf("%s was decided about as %s and recorded as %s, and sent as %s", sent, planned, x.Path, want)
		}
	}
}

func TestOfferOfH2CIsIgnored(t *testing.T) {
	w := newWorld(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" || r.Header.Get("Http2-Settings") != "" {
			t.Errorf("header %v", r.Header)
		}
	})
	w.plan = proxy.Plan{Decision: proxy.Inject, Credential: "c", Version: 1}
	response := w.raw(t, "GET / HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n")[0]
	if response.StatusCode != 200 {
		t.Errorf("status %d", response.StatusCode)
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
	w.Keep(map[string]uint64{"c": 2})
	get()
	w.plan.Credential = "d"
	get()
	w.DropIdle()
	get()
	if len(conns) != 4 {
		t.Errorf("upstream connections %v, want one for c/1 (twice), one for c/2, two for d/2", conns)
	}
}

func TestClientThatLeavesEndsTheUpstreamRequest(t *testing.T) {
	started, ended := make(chan struct{}), make(chan struct{})
	w := newWorld(t, func(_ http.ResponseWriter, r *http.Request) {
		close(started)
		<-r.Context().Done()
		close(ended)
	})
	c, err := net.Dial("tcp", w.address)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")
	<-started
	c.Close()
	<-ended
	if x := w.last(t); x.Reason != "client_gone" {
		t.Errorf("record %+v", x)
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
