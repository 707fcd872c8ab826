package proxy_test

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"sallyport/sidecar/proxy"
)

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
