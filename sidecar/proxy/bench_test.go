package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"sallyport/sidecar/proxy"
)

// BenchmarkRequest is one request with a response of 1 KiB over kept connections
// without TLS, between ends that do next to nothing.
func BenchmarkRequest(b *testing.B) {
	upstream, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer upstream.Close()
	response := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Mon, 23 Nov 2026 00:00:00 GMT\r\nContent-Length: 1024\r\n\r\n" + strings.Repeat("x", 1024))
	go func() {
		for {
			c, err := upstream.Accept()
			if err != nil {
				return
			}
			go answer(c, response)
		}
	}()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := proxy.New(proxy.Config{
		Facts: func(net.Conn) proxy.Facts { return proxy.Facts{Port: 80} },
		Plan: func(context.Context, *proxy.Exchange, *http.Request) (*proxy.Plan, error) {
			return &proxy.Plan{Decision: proxy.Inspect}, nil
		},
		Explain: func(*proxy.Exchange, error) *proxy.Error { return nil },
		Finish:  func(*proxy.Exchange, error) {},
		Dial: func(ctx context.Context, _ string, _ uint16) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", upstream.Addr().String())
		},
		Log: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, listener) }()
	c, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	request := []byte("GET /v1/charges?limit=3 HTTP/1.1\r\nHost: example.com\r\nUser-Agent: bench\r\nAccept: */*\r\nAuthorization: Bearer vault:key\r\n\r\n")
	buffer := make([]byte, len(response)+64)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(request); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, buffer[:len(response)]); err != nil || !bytes.HasPrefix(buffer, response[:15]) {
			b.Fatalf("%v: %s", err, buffer)
		}
	}
	c.Close()
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}

// answer gives the response to each request without a body.
func answer(c net.Conn, response []byte) {
	defer c.Close()
	for r := bufio.NewReader(c); ; {
		for {
			line, err := r.ReadSlice('\n')
			if err != nil {
				return
			}
			if len(line) == 2 {
				break
			}
		}
		if _, err := c.Write(response); err != nil {
			return
		}
	}
}
