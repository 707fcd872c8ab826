package proxy_test

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

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
