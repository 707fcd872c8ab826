package proxy_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/sidecar/proxy"
	"sallyport/sidecar/strict"
)

// line is a sidecar between a client and an upstream that both speak raw HTTP/1.1.
type line struct {
	*proxy.Server
	address   string
	finished  chan proxy.Exchange
	upstreams chan *end // connections that the sidecar made
}

// end is one end of a connection, spoken by hand.
type end struct {
	t *testing.T
	net.Conn
	in *bufio.Reader
}

const lineTimeout = 15 * time.Second

func newEnd(t *testing.T, c net.Conn) *end {
	if err := c.SetDeadline(time.Now().Add(lineTimeout)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &end{t: t, Conn: c, in: bufio.NewReader(c)}
}

func newLine(t *testing.T) *line {
	t.Helper()
	upstream, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &line{finished: make(chan proxy.Exchange, 100), upstreams: make(chan *end, 100)}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := upstream.Accept()
			if err != nil {
				return
			}
			l.upstreams <- newEnd(t, c)
		}
	})
	l.Server = proxy.New(proxy.Config{
		Facts: func(net.Conn) proxy.Facts { return proxy.Facts{Port: 80} },
		Plan: func(context.Context, *proxy.Exchange, *http.Request) (*proxy.Plan, error) {
			return &proxy.Plan{Decision: proxy.Inspect}, nil
		},
		Explain: func(*proxy.Exchange, error) *proxy.Error { return nil },
		Finish:  func(x *proxy.Exchange, _ error) { l.finished <- *x },
		Dial: func(ctx context.Context, _ string, _ uint16) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", upstream.Addr().String())
		},
		Log: slog.New(slog.DiscardHandler),
	})
	door, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.address = door.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	serving.Go(func() {
		if err := l.Serve(ctx, strictDoor{door}); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); upstream.Close(); serving.Wait() })
	return l
}

// strictDoor is what stands before the server in a sidecar.
type strictDoor struct{ net.Listener }

func (d strictDoor) Accept() (net.Conn, error) {
	c, err := d.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return strict.NewConn(c, strict.Limits{}), nil
}

func (l *line) client(t *testing.T) *end {
	t.Helper()
	c, err := net.Dial("tcp", l.address)
	if err != nil {
		t.Fatal(err)
	}
	return newEnd(t, c)
}

func (l *line) upstream(t *testing.T) *end {
	t.Helper()
	select {
	case e := <-l.upstreams:
		return e
	case <-time.After(lineTimeout):
		t.Fatal("the sidecar does not connect")
		return nil
	}
}

func (e *end) say(text string) {
	e.t.Helper()
	if _, err := io.WriteString(e, text); err != nil {
		e.t.Fatalf("say %.60q: %v", text, err)
	}
}

// head reads up to an empty line.
func (e *end) head() string {
	e.t.Helper()
	var b strings.Builder
	for {
		s, err := e.in.ReadString('\n')
		b.WriteString(s)
		if err != nil {
			e.t.Fatalf("after %q: %v", b.String(), err)
		}
		if s == "\r\n" {
			return b.String()
		}
	}
}

// hear reads what must come.
func (e *end) hear(want string) {
	e.t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(e.in, got); err != nil || string(got) != want {
		e.t.Fatalf("got %q (%v), want %q", got[:n], err, want)
	}
}

// silent makes sure that nothing comes for a while.
func (e *end) silent(d time.Duration) {
	e.t.Helper()
	if err := e.SetReadDeadline(time.Now().Add(d)); err != nil {
		e.t.Fatal(err)
	}
	b, err := e.in.ReadByte()
	if err == nil {
		e.t.Errorf("%q came, and should not yet", b)
	}
	if err := e.SetDeadline(time.Now().Add(lineTimeout)); err != nil {
		e.t.Fatal(err)
	}
}

// over makes sure that the connection ends and nothing comes before.
func (e *end) over() {
	e.t.Helper()
	rest, err := io.ReadAll(e.in)
	if len(rest) > 0 || err != nil && !strings.Contains(err.Error(), "reset") {
		e.t.Errorf("the connection did not end: %q, %v", rest, err)
	}
}

// has looks for a field line in a head, in any case.
func has(head, field string) bool {
	return strings.Contains(strings.ToLower(head), "\r\n"+strings.ToLower(field)+"\r\n")
}

func status(head string) string { return strings.SplitN(head, " ", 3)[1] }

const getLine = "GET / HTTP/1.1\r\nHost: a.test\r\n"
