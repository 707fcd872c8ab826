package proxy_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/sidecar/proxy"
	"sallyport/sidecar/strict"
)

// pipes is a listener whose connections are net.Pipes, for clocks that can be advanced.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	c, ok := <-p.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.conns) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// slow runs client against a sidecar, and tells how long the connection lasted
// and what came back.
func slow(t *testing.T, client func(io.Writer)) (lasted time.Duration, answer string) {
	server := proxy.New(proxy.Config{
		Facts: func(net.Conn) proxy.Facts { return proxy.Facts{Port: 80} },
		Plan: func(context.Context, *proxy.Exchange, *http.Request) (*proxy.Plan, error) {
			return nil, proxy.Errorf(http.StatusTeapot, "teapot", "this test forwards nothing")
		},
		Explain: func(*proxy.Exchange, error) *proxy.Error { return nil },
		Finish:  func(*proxy.Exchange, error) {},
		Log:     slog.New(slog.DiscardHandler),
	})
	door := &pipes{conns: make(chan net.Conn, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(ctx, door) })
	outer, inner := net.Pipe()
	door.conns <- strict.NewConn(inner, strict.Limits{})
	begin := time.Now()
	serving.Go(func() { client(outer) })
	text, _ := io.ReadAll(outer)
	lasted = time.Since(begin)
	outer.Close()
	cancel()
	serving.Wait()
	return lasted, string(text)
}

// A client that dribbles a head is told so and cut off; one that says nothing is
// cut off in the end.
func TestSlowClients(t *testing.T) {
	dribble := func(text string) func(io.Writer) {
		return func(w io.Writer) {
			for i := range text {
				if _, err := io.WriteString(w, text[i:i+1]); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}
	}
	for _, tt := range []struct {
		name    string
		client  func(io.Writer)
		longest time.Duration
		answer  string
	}{
		{"dribbled line", dribble(strings.Repeat("G", 100)), time.Minute, "HTTP/1.1 408 "},
		{"dribbled field", dribble("GET / HTTP/1.1\r\nHost: " + strings.Repeat("a", 100)), time.Minute, "HTTP/1.1 408 "},
		{"whole lines and no end", func(w io.Writer) { _, _ = io.WriteString(w, "GET / HTTP/1.1\r\nHost: a.test\r\n") }, time.Minute, "HTTP/1.1 408 "},
		{"dribbled second request", func(w io.Writer) {
			_, _ = io.WriteString(w, getLine+"\r\n")
			dribble(strings.Repeat("G", 100))(w)
		}, time.Minute, "HTTP/1.1 418 "},
		{"silence", func(io.Writer) {}, 15 * time.Minute, ""},
		{"silence after a request", func(w io.Writer) { _, _ = io.WriteString(w, getLine+"\r\n") }, 15 * time.Minute, "HTTP/1.1 418 "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lasted, answer := slow(t, tt.client)
				if lasted > tt.longest || !strings.HasPrefix(answer, tt.answer) || tt.answer == "" && answer != "" {
					t.Errorf("after %v came %q, want %q within %v", lasted, answer, tt.answer, tt.longest)
				}
			})
		})
	}
}
