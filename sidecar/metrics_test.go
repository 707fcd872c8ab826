package sidecar

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Connections to the metrics that say nothing are bounded, and end by themselves.
func TestMetricsConnectionsAreBounded(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error)
	go func() { served <- (&metrics{registry: prometheus.NewRegistry()}).serve(ctx, listener) }()
	defer func() { cancel(); <-served }()
	ask := func(patience time.Duration) (net.Conn, error) {
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if _, err := io.WriteString(conn, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		_, err = conn.Read(make([]byte, 1))
		return conn, err
	}
	var first net.Conn
	for i := range mostScrapes {
		conn, err := ask(time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = conn
		}
	}
	if _, err := ask(500 * time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("one more is answered while all are held: %v", err)
	}
	first.Close()
	if _, err := ask(time.Minute); err != nil {
		t.Errorf("after one has gone: %v", err)
	}
}
