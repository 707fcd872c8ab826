package smuggle_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/e2e/smuggle/vectors"
)

// poison is an answer that nobody asked for.
const poison = "HTTP/1.1 200 OK\r\nX-For: poison\r\nContent-Length: 6\r\n\r\npoison"

// hostile is what an upstream answers the first request with.
type hostile struct {
	name   string
	answer string
	method string // GET, if empty
	late   string // comes when the exchange is over
	close  bool   // the upstream closes then
	// fresh is that the connection must not be used for another request.
	fresh bool
	// rest is that the response goes on until the connection ends, with all that comes.
	rest bool
	// broken is that the client must not take what it got for a whole response.
	broken bool
	status int // that the client gets; 0: any
}

func hostiles() []hostile {
	const ok = "HTTP/1.1 200 OK\r\n"
	sized := ok + "Content-Length: 5\r\n\r\nhello"
	all := []hostile{
		{name: "plain", answer: sized, status: 200},
		{name: "CL and TE", answer: ok + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", fresh: true},
		{name: "TE and CL", answer: ok + "Transfer-Encoding: chunked\r\nContent-Length: 500\r\n\r\n5\r\nhello\r\n0\r\n\r\n", fresh: true},
		{name: "CL and odd TE", answer: ok + "Content-Length: 5\r\nTransfer-Encoding: xchunked\r\n\r\nhello" + poison, fresh: true},
		{name: "two CL", answer: ok + "Content-Length: 5\r\nContent-Length: 50\r\n\r\nhello" + poison, fresh: true, status: 502},
		{name: "CL list", answer: ok + "Content-Length: 5, 50\r\n\r\nhello" + poison, fresh: true, status: 502},
		{name: "CL negative", answer: ok + "Content-Length: -5\r\n\r\nhello", fresh: true, status: 502},
		{name: "CL plus", answer: ok + "Content-Length: +5\r\n\r\nhello", fresh: true, status: 502},
		{name: "CL huge", answer: ok + "Content-Length: 99999999999999999999\r\n\r\nhello", fresh: true, status: 502},
		{name: "TE twice", answer: ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + poison, fresh: true},
		{name: "TE list", answer: ok + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + poison, fresh: true, status: 502},
		{name: "TE identity", answer: ok + "Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello" + poison, fresh: true},
		{name: "TE with a space", answer: ok + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + poison, close: true, fresh: true, rest: true},
		{name: "more than said", answer: sized + poison, fresh: true, status: 200},
		{name: "more than said, later", answer: sized, late: poison, fresh: true, status: 200},
		{name: "line ends after", answer: sized + "\r\n", fresh: true, status: 200},
		{name: "chunked and more", answer: ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + poison, fresh: true, status: 200},
		{name: "chunked and later more", answer: ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", late: poison, fresh: true, status: 200},
		{name: "HEAD with body", method: "HEAD", answer: sized + poison, fresh: true, status: 200},
		{name: "HEAD with chunks", method: "HEAD", answer: ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", fresh: true, status: 200},
		{name: "204 with body", answer: "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello" + poison, fresh: true, status: 204},
		{name: "204 with chunks", answer: "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", fresh: true},
		{name: "304 with body", answer: "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello" + poison, fresh: true, status: 304},
		{name: "205 with body", answer: "HTTP/1.1 205 Reset Content\r\nContent-Length: 5\r\n\r\nhello", status: 205},
		{name: "101 unasked", answer: "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + poison, fresh: true, status: 502},
		{name: "101 of nothing", answer: "HTTP/1.1 101 Switching Protocols\r\n\r\n" + poison, fresh: true, status: 502},
		{name: "1xx flood", answer: strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", 20_000) + sized, fresh: true, status: 502},
		{name: "100 flood", answer: strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 20_000) + sized, fresh: true, status: 502},
		{name: "1xx with body", answer: "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nhello" + sized, fresh: true, status: 502},
		{name: "closed in the body", answer: ok + "Content-Length: 50\r\n\r\nhello", close: true, fresh: true, broken: true},
		{name: "closed in a chunk", answer: ok + "Transfer-Encoding: chunked\r\n\r\n50\r\nhello", close: true, fresh: true, broken: true},
		{name: "closed before the last chunk", answer: ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", close: true, fresh: true, broken: true},
		{name: "closed in the trailers", answer: ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n", close: true, fresh: true, broken: true},
		{name: "closed in the head", answer: ok + "Content-Length: 0\r\n", close: true, fresh: true, status: 502},
		{name: "closed at once", answer: "", close: true, fresh: true, status: 502},
		{name: "until it closes", answer: ok + "\r\nhello", close: true, fresh: true, status: 200},
		{name: "HTTP/1.0 with chunks", answer: "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + poison, close: true, fresh: true, rest: true},
		{name: "HTTP/1.0 that stays", answer: "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello", status: 200},
		{name: "Connection close, and stays", answer: ok + "Connection: close\r\nContent-Length: 5\r\n\r\nhello", fresh: true, status: 200},
		{name: "long head", answer: ok + "X: " + strings.Repeat("y", 10<<20) + "\r\nContent-Length: 0\r\n\r\n", fresh: true, status: 502},
		{name: "long status line", answer: "HTTP/1.1 200 " + strings.Repeat("y", 10<<20) + "\r\nContent-Length: 0\r\n\r\n", fresh: true, status: 502},
		{name: "many fields", answer: ok + strings.Repeat("X: y\r\n", 100_000) + "Content-Length: 0\r\n\r\n", fresh: true, status: 502},
		{name: "long trailers", answer: ok + "Transfer-Encoding: chunked\r\n\r\n0\r\n" + strings.Repeat("X: y\r\n", 1_000_000) + "\r\n", fresh: true, broken: true},
		{name: "bare LF", answer: "HTTP/1.1 200 OK\nX: y\nContent-Length: 5\n\nhello"},
		{name: "CR in a value", answer: ok + "X: a\rX-For: poison\r\nContent-Length: 5\r\n\r\nhello"},
		{name: "LF in a value", answer: ok + "X: a\nX-Injected: b\r\nContent-Length: 5\r\n\r\nhello"},
		{name: "folded", answer: ok + "X: a\r\n b\r\nContent-Length: 5\r\n\r\nhello"},
		{name: "folded length", answer: ok + "X: a\r\n Content-Length: 500\r\nContent-Length: 5\r\n\r\nhello"},
		{name: "NUL in a value", answer: ok + "X: a\x00b\r\nContent-Length: 5\r\n\r\nhello"},
		{name: "control character", answer: ok + "X: a\x07\x7fb\r\nContent-Length: 5\r\n\r\nhello"},
		{name: "space in a name", answer: ok + "X Y: z\r\nContent-Length: 5\r\n\r\nhello"},
		{name: "no colon", answer: ok + "nothing\r\nContent-Length: 5\r\n\r\nhello", fresh: true, status: 502},
		{name: "nominated", answer: ok + "Connection: x-hop, content-length\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nContent-Length: 5\r\n\r\nhello", status: 200},
		{name: "the client's words", answer: ok + "Sallyport-Error: none\r\nContent-Length: 5\r\n\r\nhello", status: 200},
		{name: "no HTTP", answer: "220 smtp.test ESMTP\r\n", fresh: true, status: 502},
		{name: "TLS", answer: "\x16\x03\x01\x00\x05hello\r\n\r\n", fresh: true, status: 502},
	}
	for _, line := range []string{"HTTP/1.1 000 Zero", "HTTP/1.1 001 One", "HTTP/1.1 099 Odd", "HTTP/1.1 20 OK", "HTTP/1.1 2000 OK", "HTTP/1.1 -20 OK", "HTTP/1.1 +20 OK", "HTTP/1.1 2 0 OK", "HTTP/1.1 abc OK", "HTTP/2.0 200 OK", "HTTP/1.1", "ICY 200 OK", "http/1.1 200 OK", "HTTP/1.1\t200 OK"} {
		all = append(all, hostile{name: line, answer: line + "\r\nContent-Length: 5\r\n\r\nhello", fresh: true, status: 502})
	}
	for _, size := range []string{"zz", "", "-5", "+5", "0x5", " 5", "5 5", "ffffffffffffffff", "ffffffffffffffffffff", "5\x00"} {
		all = append(all, hostile{name: "chunk of " + size, answer: ok + "Transfer-Encoding: chunked\r\n\r\n" + size + "\r\nhello\r\n0\r\n\r\n" + poison, close: true, fresh: true, broken: true, rest: strings.HasPrefix(size, "ffff")})
	}
	for _, body := range []string{"5\r\nhelloX\r\n0\r\n\r\n", "4\r\nhello\r\n0\r\n\r\n", "5\r\nhello0\r\n\r\n", "5\nhello\n0\n\n", "5\r\nhello\r\n0\r\nX\r\n\r\n"} {
		all = append(all, hostile{name: fmt.Sprintf("chunks %q", body), answer: ok + "Transfer-Encoding: chunked\r\n\r\n" + body + poison, fresh: true, broken: true})
	}
	for name, answer := range map[string]string{
		"reason":         "HTTP/1.1 200 " + canary + "\r\nContent-Length: 5\r\n\r\nhello",
		"value":          ok + "X: " + canary + "\r\nContent-Length: 5\r\n\r\nhello",
		"name":           ok + canary + ": x\r\nContent-Length: 5\r\n\r\nhello",
		"no colon":       ok + canary + "\r\nContent-Length: 5\r\n\r\nhello",
		"folded":         ok + "X: " + canary[:9] + "\r\n " + canary[9:] + "\r\nContent-Length: 5\r\n\r\nhello",
		"early hints":    "HTTP/1.1 103 Early Hints\r\nLink: " + canary + "\r\n\r\n" + sized,
		"odd 1xx":        "HTTP/1.1 199 " + canary + "\r\nX: " + canary + "\r\n\r\n" + sized,
		"body":           ok + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(canary)) + canary,
		"chunks":         ok + "Transfer-Encoding: chunked\r\n\r\n9\r\n" + canary[:9] + "\r\n" + fmt.Sprintf("%x\r\n", len(canary)-9) + canary[9:] + "\r\n0\r\n\r\n",
		"extension":      ok + "Transfer-Encoding: chunked\r\n\r\n5;" + canary + "\r\nhello\r\n0\r\n\r\n",
		"trailer":        ok + "Trailer: X\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: " + canary + "\r\n\r\n",
		"hidden trailer": ok + "Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + canary + "\r\n\r\n",
		"trailer name":   ok + "Trailer: " + canary + "\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + canary + ": x\r\n\r\n",
		"connection":     ok + "Connection: " + canary + "\r\nContent-Length: 5\r\n\r\nhello",
		"length":         ok + "Content-Length: " + canary + "\r\n\r\nhello",
		"coding":         ok + "Transfer-Encoding: " + canary + "\r\n\r\nhello",
		"version":        canary + " 200 OK\r\n\r\n",
		"status":         "HTTP/1.1 " + canary + "\r\n\r\n",
		"204":            "HTTP/1.1 204 No Content\r\nX: " + canary + "\r\n\r\n" + canary,
		"101":            "HTTP/1.1 101 " + canary + "\r\nConnection: Upgrade\r\nUpgrade: " + canary + "\r\n\r\n" + canary,
		"redirect":       "HTTP/1.1 302 Found\r\nLocation: https://evil.test/?" + canary + "\r\nContent-Length: 0\r\n\r\n",
	} {
		all = append(all, hostile{name: "credential: " + name, answer: answer})
	}
	return all
}

// liar is a fake upstream. It answers the first request it gets with what is
// hostile, and every other one in an orderly way.
type liar struct {
	hostile
	mu    sync.Mutex
	lied  bool
	after int // requests on the connection that the lie was told on, since
}

func (l *liar) serve(t *testing.T) (address string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { l.answerAll(c) })
			t.Cleanup(func() { c.Close() })
		}
	})
	t.Cleanup(func() { listener.Close(); serving.Wait() })
	return listener.Addr().String()
}

func (l *liar) answerAll(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	for here := false; ; {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		l.mu.Lock()
		lie := !l.lied
		l.lied = true
		if here {
			l.after++
		}
		l.mu.Unlock()
		if !lie {
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nX-For: %s\r\nContent-Length: %d\r\n\r\n%s", r.URL.Path, len(r.URL.Path), r.URL.Path)
			continue
		}
		here = true
		_, _ = io.WriteString(c, l.answer) // the sidecar may close before it has read all
		if l.close {
			return
		}
		if l.late != "" {
			time.Sleep(50 * time.Millisecond)
			_, _ = io.WriteString(c, l.late)
		}
	}
}

// TestAnswers has upstreams that answer what they shouldn't. The client gets no
// answer that is not to its request, nothing that could be read in two ways, and
// no credential.
func TestAnswers(t *testing.T) {
	for _, h := range hostiles() {
		t.Run(h.name, func(t *testing.T) {
			l := &liar{hostile: h}
			c := newChain(t, l.serve(t))
			method := "GET"
			if h.method != "" {
				method = h.method
			}
			text, whole := c.ask(t, method, "/first", nil)
			l.check(t, text, whole)
			time.Sleep(80 * time.Millisecond) // what comes late is there
			for _, path := range []string{"/second", "/third"} {
				text, whole := c.ask(t, "GET", path, nil)
				want := fmt.Sprintf("\r\n\r\n%s", path)
				if !whole || !strings.HasSuffix(text, want) || !strings.Contains(text, "X-For: "+path) {
					t.Errorf("%s was answered %q", path, text)
				}
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			if h.fresh && l.after > 0 {
				t.Errorf("the connection carried %d more requests", l.after)
			}
		})
	}
}

// ask sends a request over a connection of its own, and gives all that comes
// back and whether a client would take it for a whole response.
func (c *chain) ask(t *testing.T, method, path string, body io.Reader) (text string, whole bool) {
	t.Helper()
	conn, err := net.Dial("tcp", c.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(hung)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", method, path, vectors.Host)
	got, err := io.ReadAll(conn)
	if err != nil && len(got) == 0 && !strings.Contains(err.Error(), "reset") {
		t.Fatalf("no answer to %s: %v", path, err)
	}
	r := bufio.NewReader(bytes.NewReader(got))
	for {
		response, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			return string(got), false
		}
		if response.StatusCode < 200 {
			continue
		}
		_, err = io.Copy(io.Discard, response.Body)
		return string(got), err == nil
	}
}

// check looks at all that came to the client for the first request.
func (l *liar) check(t *testing.T, text string, whole bool) {
	if l.broken && whole && !strings.Contains(text, "502") {
		t.Errorf("a broken response came as a whole one: %.500q", text)
	}
	if strings.Contains(text, "poison") && !l.rest {
		t.Errorf("got what was not asked for: %.500q", text)
	}
	if strings.Contains(text, canary) || strings.Contains(text, canary[:12]) {
		t.Errorf("got the credential: %.500q", text)
	}
	rest, status := text, ""
	for {
		head, after, found := strings.Cut(rest, "\r\n\r\n")
		if !found {
			if rest != "" {
				t.Errorf("no head: %.300q", rest)
			}
			return
		}
		status = checkHead(t, head)
		if !strings.HasPrefix(status, "1") {
			break
		}
		rest = after
	}
	if l.status != 0 && status != fmt.Sprint(l.status) {
		t.Errorf("status %s, want %d: %.300q", status, l.status, text)
	}
}

// checkHead finds what could be read in two ways.
func checkHead(t *testing.T, head string) (status string) {
	lines := strings.Split(head, "\r\n")
	if strings.ContainsAny(strings.Join(lines, ""), "\r\n\x00") {
		t.Errorf("a line end within a line: %.300q", head)
	}
	words := strings.SplitN(lines[0], " ", 3)
	if len(words) != 3 || words[0] != "HTTP/1.1" || len(words[1]) != 3 {
		t.Fatalf("the status line %q", lines[0])
	}
	framings := 0
	for _, line := range lines[1:] {
		name, _, found := strings.Cut(line, ":")
		if !found || strings.ContainsAny(name, " \t") {
			t.Errorf("the field %q", line)
		}
		switch strings.ToLower(name) {
		case "content-length", "transfer-encoding":
			framings++
		case "keep-alive", "x-hop", "proxy-connection":
			t.Errorf("a field of the upstream's connection: %q", line)
		}
	}
	if framings > 1 {
		t.Errorf("two framings: %q", head)
	}
	return words[1]
}
