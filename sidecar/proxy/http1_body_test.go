package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
)

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
