package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"sallyport/sidecar/proxy"
)

// TestEndClosesIdleConnections has connections that wait for a request, and
// clients that have left, when the end is asked for.
func TestEndClosesIdleConnections(t *testing.T) {
	w := newWorld(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "x") })
	for i := range 32 {
		c, err := net.Dial("tcp", w.address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")
		if i%2 == 0 {
			if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
				t.Fatal(err)
			}
		}
		if i%3 == 0 {
			c.Close()
		}
	}
	begun := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if !w.stop(ctx) {
		t.Errorf("not ended %v after it was asked for", time.Since(begun))
	}
}

// TestFaultEndsOneConnection has a plan that panics: the others are served on.
func TestFaultEndsOneConnection(t *testing.T) {
	var said lockedBuffer
	w := newWorld(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "x") }, func(c *proxy.Config) {
		c.Log = slog.New(slog.NewTextHandler(&said, nil))
		plan := c.Plan
		c.Plan = func(ctx context.Context, x *proxy.Exchange, r *http.Request) (*proxy.Plan, error) {
			if r.URL.Path == "/fault" {
				panic("canary")
			}
			return plan(ctx, x, r)
		}
	})
	c, err := net.Dial("tcp", w.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET /fault HTTP/1.1\r\nHost: example.com\r\n\r\n")
	if answer, err := io.ReadAll(c); err != nil || len(answer) > 0 {
		t.Errorf("%q, %v", answer, err)
	}
	if response := w.raw(t, plainGet)[0]; response.StatusCode != 200 {
		t.Errorf("status %d", response.StatusCode)
	}
	if log := said.String(); !strings.Contains(log, "TestFaultEndsOneConnection") || strings.Contains(log, "canary") {
		t.Errorf("log: %s", log)
	}
}

// TestStatusBelow100 has an upstream whose status is none.
func TestStatusBelow100(t *testing.T) {
	w, done := rawUpstream(t, func(c net.Conn, _ int) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			io.WriteString(c, "HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n")
			io.Copy(io.Discard, c)
		}
	})
	defer done()
	if response := w.raw(t, plainGet)[0]; response.StatusCode != 502 {
		t.Errorf("status %d", response.StatusCode)
	}
}
