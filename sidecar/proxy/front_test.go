package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"
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
