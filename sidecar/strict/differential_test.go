package strict

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sallyport/e2e/smuggle/vectors"
)

// seen is a request as one reader understood it.
type seen struct {
	method, target, proto, host, body string
	fields                            http.Header
}

func (s seen) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s host %s body %q", s.method, s.target, s.proto, s.host, s.body)
	for _, name := range slices.Sorted(maps.Keys(s.fields)) {
		switch name {
		case "Transfer-Encoding", "Trailer", "Content-Length", "Cache-Control": // net/http edits them
		default:
			fmt.Fprintf(&b, " %s=%q", name, s.fields[name])
		}
	}
	return b.String()
}

// last reports whether the connection ends after the request.
func (s seen) last() bool {
	options := strings.FieldsFunc(strings.ToLower(strings.Join(s.fields["Connection"], ",")), func(r rune) bool { return strings.ContainsRune(", \t", r) })
	return slices.Contains(options, "close") || s.proto == "HTTP/1.0" && !slices.Contains(options, "keep-alive")
}

// reference reads requests in the plainest way, which is right for those that
// can be read in one way only. It gives the complete ones.
func reference(text string) []seen {
	var all []seen
	for {
		head, rest, found := strings.Cut(text, "\r\n\r\n")
		if !found {
			return all
		}
		lines := strings.Split(head, "\r\n")
		words := strings.Split(lines[0], " ")
		if len(words) != 3 {
			return all
		}
		s := seen{method: words[0], target: words[1], proto: words[2], fields: http.Header{}}
		for _, line := range lines[1:] {
			name, value, _ := strings.Cut(line, ":")
			s.fields.Add(name, strings.Trim(value, " \t"))
		}
		s.host = s.fields.Get("Host")
		s.fields.Del("Host")
		var complete bool
		if s.body, text, complete = referenceBody(s.fields, rest); !complete {
			return all
		}
		all = append(all, s)
	}
}

func referenceBody(fields http.Header, text string) (body, rest string, complete bool) {
	if fields.Get("Transfer-Encoding") == "" {
		n, err := strconv.Atoi("0" + fields.Get("Content-Length"))
		if err != nil || n > len(text) {
			return "", "", false
		}
		return text[:n], text[n:], true
	}
	for {
		size, rest, found := strings.Cut(text, "\r\n")
		n, err := strconv.ParseUint(size, 16, 32)
		if !found || err != nil || int(n)+2 > len(rest) {
			return "", "", false
		}
		if n == 0 {
			if rest, found = strings.CutPrefix(rest, "\r\n"); found {
				return body, rest, true
			}
			_, rest, found = strings.Cut(rest, "\r\n\r\n")
			return body, rest, found
		}
		body, text = body+rest[:n], rest[n+2:]
	}
}

// server is net/http's, telling what it understood of each connection.
type server struct {
	conns oneConn
	log   bytes.Buffer
}

type recorder struct {
	net.Conn
	requests []seen
	done     chan struct{}
}

type recorderKey struct{}

func startServer(t testing.TB) *server {
	s := &server{conns: make(oneConn)}
	srv := &http.Server{
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     log.New(&s.log, "", 0),
		ConnContext:                  func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, recorderKey{}, c) },
		ConnState: func(c net.Conn, state http.ConnState) {
			if state == http.StateClosed {
				close(c.(*recorder).done)
			}
		},
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return
			}
			rec := r.Context().Value(recorderKey{}).(*recorder)
			rec.requests = append(rec.requests, seen{r.Method, r.RequestURI, r.Proto, r.Host, string(body), r.Header})
		}),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(s.conns)
	}()
	t.Cleanup(func() { close(s.conns); <-done })
	return s
}

// understood gives the requests that net/http handles of what c lets through.
func (s *server) understood(c net.Conn) []seen {
	rec := &recorder{Conn: c, done: make(chan struct{})}
	s.conns <- rec
	<-rec.done
	return rec.requests
}

// Whatever is let through, net/http understands as the one sequence of requests
// that the bytes are, however they are cut.
func FuzzAgreesWithNetHTTP(f *testing.F) {
	for _, text := range accepted {
		f.Add([]byte(text+good), []byte{1, 50})
	}
	for _, text := range refused {
		f.Add([]byte(good+text+good), []byte{200, 3})
	}
	for _, v := range vectors.All() {
		f.Add([]byte(v.Text), []byte{200, 3})
	}
	s := startServer(f)
	f.Fuzz(func(t *testing.T, text, sizes []byte) {
		if len(text) > 64<<10 {
			return
		}
		var cuts []int
		for _, size := range sizes {
			cuts = append(cuts, int(size))
		}
		agree(t, s, string(text), cuts)
	})
}

// Requests put together of good and bad parts reach deeper than bytes at random.
func TestAgreesWithNetHTTP(t *testing.T) {
	s := startServer(t)
	parts := []string{
		"GET / HTTP/1.1\r\n", "POST /a?b HTTP/1.1\r\n", "PUT /%2e HTTP/1.0\r\n", "GET /", " HTTP/1.1", "\r\n", "\r\n", "\r\n\r\n", "\r", "\n",
		"Host: a.test\r\n", "Host: a.test\r\n", "Host: b.test", "Content-Length: 5\r\n", "Content-Length: 0\r\n", "Content_Length: 5\r\n",
		"Transfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\n", "Transfer-Encoding: x\r\n", "Trailer: A\r\n", "Expect: 100-continue\r\n",
		"Upgrade: h2c\r\n", "Connection: close\r\n", "A: b\r\n", " c\r\n", "A", ":", " ", "\t", ";x", "hello", "5\r\nhello\r\n", "0\r\n\r\n", "0\r\n", "0\r\nA: b\r\n\r\n",
		good, chunked("5\r\nhello\r\n0\r\n\r\n"), "POST / HTTP/1.1\r\nHost: a.test\r\n", "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n",
	}
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfN(rapid.SampledFrom(parts), 1, 14).Draw(t, "parts"), "")
		agree(t, s, text, rapid.SliceOfN(rapid.IntRange(1, 40), 0, 4).Draw(t, "cuts"))
	})
}

// agree checks what becomes of text when it is read in pieces of the sizes cuts.
func agree(t interface{ Fatalf(string, ...any) }, s *server, text string, cuts []int) {
	out, _, err := through(Limits{}, text, cuts...)
	whole, _, wholeErr := through(Limits{}, text)
	var refusal, wholeRefusal *Error
	if errors.As(err, &refusal) != errors.As(wholeErr, &wholeRefusal) || refusal == nil && out != whole {
		t.Fatalf("cut by %v: %q, %v\nwhole: %q, %v", cuts, out, err, whole, wholeErr)
	}
	conn := &script{text: []byte(text), sizes: cuts}
	got := s.understood(NewConn(conn, Limits{}))
	want := reference(text)
	if refusal != nil {
		// What is refused is not a request, and nothing after it is one.
		if len(got) > len(want) {
			t.Fatalf("understood %v, want some of %v", got, want)
		}
		want = want[:len(got)]
	}
	if i := slices.IndexFunc(want, seen.last); i >= 0 {
		want = want[:i+1]
	}
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		t.Fatalf("%q was understood as\n%v, want\n%v\n(answers %q)", text, g, w, &conn.written)
	}
	// Every answer but that to a request handled is ours.
	answers := strings.Count(conn.written.String(), "HTTP/1.1 400 Bad Request")
	if ours := strings.Count(conn.written.String(), "Sallyport-Error: "); answers > ours {
		t.Fatalf("%q: net/http refused what was let through: %q", text, &conn.written)
	}
}
