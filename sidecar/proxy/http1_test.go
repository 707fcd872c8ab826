package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
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

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	l := newLine(t)
	c := l.client(t)
	c.say("GET /1 HTTP/1.1\r\nHost: a.test\r\n\r\n" + "POST /2 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody" + "HEAD /3 HTTP/1.1\r\nHost: a.test\r\n\r\n" +
		"POST /4 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n" + "GET /5 HTTP/1.1\r\nHost: a.test\r\n\r\n")
	u := l.upstream(t)
	for i := 1; i <= 5; i++ {
		head := u.head()
		if !strings.Contains(head, fmt.Sprintf(" /%d ", i)) {
			t.Fatalf("request %d is %q", i, head)
		}
		switch i {
		case 2:
			u.hear("body")
		case 4:
			u.hear("4\r\nbody\r\n0\r\n\r\n")
		}
		u.silent(20 * time.Millisecond) // one at a time
		u.say("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n")
		if i != 3 {
			u.say(fmt.Sprint(i))
		}
	}
	for i := 1; i <= 5; i++ {
		if head := c.head(); !has(head, "Content-Length: 1") {
			t.Errorf("answer %d: %q", i, head)
		}
		if i != 3 {
			c.hear(fmt.Sprint(i))
		}
	}
}

func TestHTTP10(t *testing.T) {
	l := newLine(t)
	answer := func(u *end) {
		if head := u.head(); !strings.HasPrefix(head, "GET / HTTP/1.1\r\n") {
			t.Errorf("upstream heard %q", head)
		}
		u.say("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
	}
	c := l.client(t)
	c.say("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n")
	u := l.upstream(t)
	answer(u)
	if head := c.head(); status(head) != "200" || strings.Contains(strings.ToLower(head), "transfer-encoding") {
		t.Errorf("HTTP/1.0 was answered %q", head)
	}
	c.hear("ok")
	c.over()

	c = l.client(t)
	c.say("GET / HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n")
	u.head()
	u.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	if head := c.head(); !has(head, "Connection: keep-alive") {
		t.Errorf("HTTP/1.0 that wants to stay was answered %q", head)
	}
	c.hear("ok")
	c.say("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n")
	u.head()
	u.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	c.head()
	c.hear("ok")
	c.over()
}

func TestExpect(t *testing.T) {
	const ask = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
	for _, answer := range []struct{ name, says, status string }{
		{"continue", "HTTP/1.1 100 Continue\r\n\r\n", "100"},
		{"continue and hints", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n", "103"},
		{"refused", "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n", "417"},
		{"answered", "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", "401"},
		{"silence", "", "100"},
	} {
		t.Run(answer.name, func(t *testing.T) {
			l := newLine(t)
			c := l.client(t)
			c.say(ask)
			u := l.upstream(t)
			if head := u.head(); !has(head, "Expect: 100-continue") {
				t.Errorf("upstream heard %q", head)
			}
			u.silent(100 * time.Millisecond)
			c.silent(100 * time.Millisecond)
			u.say(answer.says)
			head := c.head()
			if status(head) == "103" && answer.status == "103" {
				head = c.head()
			} else if status(head) != answer.status {
				t.Fatalf("the client heard %q", head)
			}
			if status(head) != "100" {
				// The body was never asked for: either side may end the connection.
				u.over()
				return
			}
			c.say("body")
			u.hear("body")
			u.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			if head := c.head(); status(head) != "200" {
				t.Errorf("the client heard %q", head)
			}
		})
	}
}

func TestInterimAnswers(t *testing.T) {
	l := newLine(t)
	c := l.client(t)
	c.say(getLine + "\r\n")
	u := l.upstream(t)
	u.head()
	for _, code := range []string{"102", "103", "103", "199"} {
		u.say("HTTP/1.1 " + code + " X\r\nLink: </x>\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n")
		if head := c.head(); status(head) != code || !has(head, "Link: </x>") || strings.Contains(strings.ToLower(head), "x-hop") {
			t.Errorf("%s came as %q", code, head)
		}
	}
	u.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	c.head()
	c.hear("ok")
}

func TestTrailers(t *testing.T) {
	l := newLine(t)
	c := l.client(t)
	c.say("POST / HTTP/1.1\r\nHost: a.test\r\nTE: trailers\r\nConnection: TE\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n")
	u := l.upstream(t)
	if head := u.head(); !has(head, "TE: trailers") {
		t.Errorf("upstream heard %q", head)
	}
	u.hear("2\r\nhi\r\n0\r\n")
	for u.head() != "\r\n" { // those of a request need not pass
	}
	u.say("HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 2\r\n\r\n")
	if head := c.head(); !has(head, "Trailer: X-Sum") || !has(head, "Transfer-Encoding: chunked") {
		t.Errorf("the client heard %q", head)
	}
	c.hear("2\r\nok\r\n0\r\nX-Sum: 2\r\n\r\n")
	c.say(getLine + "\r\n")
	u.head()
}

func TestBodyUntilTheConnectionEnds(t *testing.T) {
	l := newLine(t)
	c := l.client(t)
	c.say(getLine + "\r\n")
	u := l.upstream(t)
	u.head()
	u.say("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nfirst")
	if head := c.head(); !has(head, "Transfer-Encoding: chunked") {
		t.Errorf("the client heard %q", head)
	}
	c.hear("5\r\nfirst\r\n") // before the second
	u.say("second")
	u.Close()
	c.hear("6\r\nsecond\r\n0\r\n\r\n")
	c.say(getLine + "\r\n") // its own connection stays
	l.upstream(t).head()
}

// An event stream is open before its first event, and an event comes before the next.
func TestEventsComeAsTheyAreSent(t *testing.T) {
	for _, framing := range []string{"Transfer-Encoding: chunked", "Content-Length: 1000", "Connection: close"} {
		t.Run(framing, func(t *testing.T) {
			l := newLine(t)
			c := l.client(t)
			c.say(getLine + "Accept: text/event-stream\r\n\r\n")
			u := l.upstream(t)
			u.head()
			u.say("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + framing + "\r\n\r\n")
			response, err := http.ReadResponse(c.in, nil)
			if err != nil {
				t.Fatalf("the head waits for the first event: %v", err)
			}
			events := bufio.NewReader(response.Body)
			for i := range 3 {
				event := fmt.Sprintf("data: %d\n", i)
				if strings.HasSuffix(framing, "chunked") {
					u.say(fmt.Sprintf("%x\r\n%s\r\n", len(event), event))
				} else {
					u.say(event)
				}
				if got, err := events.ReadString('\n'); got != event {
					t.Fatalf("got %q (%v), want %q", got, err, event)
				}
			}
		})
	}
}

func TestAnswersWithoutBody(t *testing.T) {
	l := newLine(t)
	c := l.client(t)
	var u *end
	for _, tt := range []struct{ method, answer, field string }{
		{"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 500\r\nETag: \"x\"\r\n\r\n", "Content-Length: 500"},
		{"HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: \"x\"\r\n\r\n", "ETag: \"x\""},
		{"GET", "HTTP/1.1 204 No Content\r\nX: y\r\n\r\n", "X: y"},
		{"GET", "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 500\r\n\r\n", "ETag: \"x\""},
		{"GET", "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", "Content-Length: 0"},
		{"GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "Content-Length: 0"},
		{"DELETE", "HTTP/1.1 204 No Content\r\n\r\n", ""},
	} {
		c.say(tt.method + " / HTTP/1.1\r\nHost: a.test\r\n\r\n")
		if u == nil {
			u = l.upstream(t)
		}
		u.head()
		u.say(tt.answer)
		if head := c.head(); tt.field != "" && !has(head, tt.field) {
			t.Errorf("%s %q came as %q", tt.method, tt.answer, head)
		}
	}
	c.say("OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n")
	if head := u.head(); !strings.HasPrefix(head, "OPTIONS * HTTP/1.1\r\n") {
		t.Errorf("OPTIONS * came as %q", head)
	}
}

// Fields of one connection stay on it, RFC 9110 section 7.6.1.
func TestHopByHop(t *testing.T) {
	l := newLine(t)
	c := l.client(t)
	fields := "Connection: x-hop, keep-alive,, X-Other \r\nConnection: x-third\r\nX-Hop: 1\r\nX-Other: 1\r\nX-Third: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nProxy-Authenticate: Basic\r\nX-Kept: 1\r\n"
	check := func(who, head string) {
		t.Helper()
		for line := range strings.SplitSeq(strings.ToLower(head), "\r\n") {
			name, _, _ := strings.Cut(line, ":")
			switch name {
			case "x-hop", "x-other", "x-third", "keep-alive", "proxy-connection", "te", "proxy-authenticate", "proxy-authorization":
				t.Errorf("%s heard %q", who, line)
			}
		}
		if !has(head, "X-Kept: 1") {
			t.Errorf("%s heard %q", who, head)
		}
	}
	c.say(getLine + fields + "Proxy-Authorization: Basic eDp5\r\n\r\n")
	u := l.upstream(t)
	check("the upstream", u.head())
	u.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + fields + "\r\n")
	check("the client", c.head())
}

// A request that its client breaks off must not look whole to the upstream.
func TestClientThatBreaksOff(t *testing.T) {
	for name, begun := range map[string]string{
		"sized":   "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nhello",
		"chunked": "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		"garbage": "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
	} {
		for _, half := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s half %v", name, half), func(t *testing.T) {
				l := newLine(t)
				c := l.client(t)
				c.say(begun)
				u := l.upstream(t)
				u.head()
				if name == "sized" {
					u.hear("hello")
				} else {
					u.hear("5\r\nhello\r\n")
				}
				if half {
					c.Conn.(*net.TCPConn).CloseWrite()
				} else {
					c.Close()
				}
				u.over()
				// The sidecar's own Explain knows what the strict reader refused.
				if x := <-l.finished; x.Reason == "" || name != "garbage" && x.Reason != "client_gone" {
					t.Errorf("recorded as %q: %+v", x.Reason, x)
				}
			})
		}
	}
}

// An upstream that has had enough says so while the client is still sending.
func TestEarlyAnswer(t *testing.T) {
	l := newLine(t)
	c := l.client(t)
	c.say("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100000000\r\n\r\n")
	u := l.upstream(t)
	u.head()
	var sending sync.WaitGroup
	sending.Go(func() {
		part := make([]byte, 64<<10)
		for range 1500 {
			if _, err := c.Write(part); err != nil {
				return // it was told to stop
			}
		}
	})
	u.say("HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig")
	if head := c.head(); status(head) != "413" {
		t.Errorf("the client heard %q", head)
	}
	c.hear("big")
	u.Close()
	sending.Wait()
}

// A request goes out again only when it can't be done twice.
func TestStaleConnection(t *testing.T) {
	for _, tt := range []struct {
		name, request string
		again         bool
	}{
		{"GET", getLine + "\r\n", true},
		{"DELETE", "DELETE / HTTP/1.1\r\nHost: a.test\r\n\r\n", true},
		{"POST", "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nhi", false},
		{"POST of nothing", "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLine(t)
			c := l.client(t)
			c.say(getLine + "\r\n")
			u := l.upstream(t)
			u.head()
			u.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			c.head()
			c.say(tt.request)
			u.head()
			u.Close() // without a word
			if !tt.again {
				if head := c.head(); status(head) != "502" {
					t.Errorf("the client heard %q", head)
				}
				if len(l.upstreams) > 0 {
					t.Error("it was sent a second time")
				}
				return
			}
			second := l.upstream(t)
			second.head()
			second.Close()
			if head := c.head(); status(head) != "502" {
				t.Errorf("the client heard %q", head)
			}
			if len(l.upstreams) > 0 {
				t.Error("it was sent a third time")
			}
		})
	}
}

// What passes is not kept: memory stays flat whatever the size.
func TestLargeBodies(t *testing.T) {
	const size = 256 << 20
	l := newLine(t)
	c := l.client(t)
	c.say(fmt.Sprintf("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n", size))
	u := l.upstream(t)
	u.head()
	var before, peak runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	pass := func(from, to *end) {
		t.Helper()
		var sending sync.WaitGroup
		sending.Go(func() {
			part := make([]byte, 1<<20)
			for range size / len(part) {
				if _, err := from.Write(part); err != nil {
					t.Error(err)
					return
				}
			}
		})
		for part := range 16 {
			if n, err := io.CopyN(io.Discard, to.in, size/16); err != nil {
				t.Fatalf("part %d: %d bytes: %v", part, n, err)
			}
			var now runtime.MemStats
			runtime.ReadMemStats(&now)
			if now.HeapInuse > peak.HeapInuse {
				peak = now
			}
		}
		sending.Wait()
	}
	pass(c, u)
	u.say(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size))
	c.head()
	pass(u, c)
	if grown := int64(peak.HeapInuse) - int64(before.HeapInuse); grown > 16<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
	if x := <-l.finished; x.RequestBytes != size || x.ResponseBytes != size {
		t.Errorf("record %+v", x)
	}
}
