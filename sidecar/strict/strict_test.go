package strict

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// script is a connection that says what it is told, in pieces of given sizes,
// and then ends. It notes what is written to it.
type script struct {
	text    []byte
	sizes   []int
	turn    int
	written bytes.Buffer
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.text) == 0 {
		return 0, io.EOF
	}
	n := len(p)
	if len(s.sizes) > 0 {
		n = min(n, max(1, s.sizes[s.turn%len(s.sizes)]))
		s.turn++
	}
	n = copy(p[:n], s.text)
	s.text = s.text[n:]
	return n, nil
}

func (s *script) Write(p []byte) (int, error)      { return s.written.Write(p) }
func (s *script) Close() error                     { return nil }
func (s *script) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *script) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// through gives what a Conn lets through of text, and how it ended.
func through(limits Limits, text string, sizes ...int) (out, answer string, err error) {
	s := &script{text: []byte(text), sizes: sizes}
	all, err := io.ReadAll(NewConn(s, limits))
	return string(all), s.written.String(), err
}

func TestAcceptedPassUnchanged(t *testing.T) {
	for _, text := range accepted {
		for _, size := range []int{1, 2, 7, 1 << 20} {
			out, answer, err := through(Limits{}, text, size)
			if err != nil || out != text || answer != "" {
				t.Errorf("%q by %d:\nout %q\nanswer %q, %v", text, size, out, answer, err)
			}
		}
	}
}

func TestRefused(t *testing.T) {
	for name, text := range refused {
		for _, before := range []string{"", good, chunked("1\r\na\r\n0\r\n\r\n")} {
			for _, size := range []int{1, 3, 1 << 20} {
				out, answer, err := through(Limits{}, before+text, size)
				var e *Error
				if !errors.As(err, &e) || e.Code == "" || e.Message == "" || e.Status < 400 {
					t.Errorf("%s: err %v", name, err)
					continue
				}
				// net/http must be left with a request that is not complete.
				if !strings.HasPrefix(before+text, out) {
					t.Errorf("%s: changed to %q", name, out)
				}
				if r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(strings.TrimPrefix(out, before)))); err == nil {
					if _, err := io.ReadAll(r.Body); err == nil {
						t.Errorf("%s: let through a whole request: %q", name, out)
					}
				}
				inBody := strings.HasPrefix(text, chunked(""))
				if wanted := !inBody && (before == "" || out != before); (answer != "") != wanted {
					t.Errorf("%s after %d bytes by %d: answer %q", name, len(before), size, answer)
				}
			}
		}
	}
}

func TestAnswer(t *testing.T) {
	var told []*Error
	limits := Limits{RequestID: func() string { return "req-1" }, Rejected: func(e *Error) { told = append(told, e) }}
	s := &script{text: []byte("GET / HTTP/1.9\r\nHost: a\r\n\r\n")}
	c := NewConn(s, limits)
	_, err := io.ReadAll(c)
	_, again := c.Read(make([]byte, 10))
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "read" || again != err {
		t.Fatalf("%v, then %v", err, again)
	}
	resp, err := http.ReadResponse(bufio.NewReader(&s.written), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var body map[string]map[string]string
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		t.Fatal(err)
	}
	e := body["error"]
	if resp.StatusCode != 505 || resp.Header.Get("Sallyport-Error") != "unsupported_version" || !resp.Close ||
		e["code"] != "unsupported_version" || e["request_id"] != "req-1" || e["message"] == "" {
		t.Errorf("%v %v", resp, body)
	}
	if s.written.Len() > 0 {
		t.Errorf("and then %q", &s.written)
	}
	if len(told) != 1 {
		t.Errorf("told %d times", len(told))
	}
}

func TestLimits(t *testing.T) {
	many := request(append([]string{"Host: a.test"}, slices.Repeat([]string{"A: b"}, 128)...)...)
	long := request("Host: a.test", "A: "+strings.Repeat("x", 64<<10))
	endless := "GET /" + strings.Repeat("x", 65<<10)
	trailers := chunked("0\r\n" + strings.Repeat("A: b\r\n", 129) + "\r\n")
	for name, text := range map[string]string{"fields": many, "bytes": long, "endless": endless, "trailers": trailers} {
		var e *Error
		if _, _, err := through(Limits{}, text, 4096); !errors.As(err, &e) || e.Status != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%s: %v", name, err)
		}
	}
	fits := request(append([]string{"Host: a.test"}, slices.Repeat([]string{"A: " + strings.Repeat("x", 400)}, 127)...)...)
	if out, _, err := through(Limits{}, fits+fits, 1000); err != nil || out != fits+fits {
		t.Errorf("128 fields: %v", err)
	}
}

func TestTrailersAreLeftOut(t *testing.T) {
	text := chunked("1\r\na\r\n0\r\nAuthorization: x\r\nChecksum: 1\r\n\r\n") + good
	want := chunked("1\r\na\r\n0\r\n\r\n") + good
	for size := 1; size < len(text); size++ {
		if out, _, err := through(Limits{}, text, size); err != nil || out != want {
			t.Fatalf("by %d: %q, %v", size, out, err)
		}
	}
}

func TestOneReadOneRequest(t *testing.T) {
	c := NewConn(&script{text: []byte(good + chunked("0\r\n\r\n") + good)}, Limits{})
	buf := make([]byte, 4096)
	for _, want := range []string{good, chunked("0\r\n\r\n"), good} {
		n, err := c.Read(buf)
		if err != nil || string(buf[:n]) != want {
			t.Errorf("%q, %v", buf[:n], err)
		}
	}
}

func TestProxyForms(t *testing.T) {
	limits := Limits{Proxy: true}
	for text, ok := range map[string]bool{
		"GET http://a.test/x?y HTTP/1.1\r\nHost: A.test\r\n\r\n":                                true,
		"GET http://a.test HTTP/1.1\r\nHost: a.test\r\n\r\n":                                    true,
		"GET http://a.test:8080/ HTTP/1.1\r\nHost: a.test:8080\r\n\r\n":                         true,
		"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n":                               true,
		"CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n\r\n":                                 true,
		"GET http://a.test/ HTTP/1.1\r\nHost: b.test\r\n\r\n":                                   false,
		"GET http://u@a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n":                                 false,
		"GET http://a.test@evil.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n":                         false,
		"GET ftp://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n":                                    false,
		"GET http:/a.test HTTP/1.1\r\nHost: a.test\r\n\r\n":                                     false,
		"GET http://a.test/%2 HTTP/1.1\r\nHost: a.test\r\n\r\n":                                 false,
		"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n":                                   true,
		"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:80\r\n\r\n":                                false,
		"CONNECT a.test:443 HTTP/1.0\r\n\r\n":                                                   true,
		"CONNECT a.test:443 HTTP/1.1\r\n\r\n":                                                   false,
		"CONNECT a.test:443 HTTP/1.0\r\nContent-Length: 1\r\n\r\n":                              false,
		"GET http://a.test/ HTTP/1.0\r\n\r\n":                                                   false,
		"CONNECT a.test HTTP/1.1\r\nHost: a.test\r\n\r\n":                                       false,
		"GET http://a.test\\@evil.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n":                       false,
		"GET http://a.test#@evil.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n":                        false,
		"GET http://a.test/ HTTP/1.1\r\nHost: a.test:80\r\n\r\n":                                false,
		"GET https://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n":                                  false,
		"GET http://a.test:/ HTTP/1.1\r\nHost: a.test:\r\n\r\n":                                 true,
		"GET http://a%2etest/ HTTP/1.1\r\nHost: a.test\r\n\r\n":                                 false,
		"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n":                   false,
		"GET http:///x HTTP/1.1\r\nHost: a.test\r\n\r\n":                                        false,
		"CONNECT user@a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n":                          false,
		"CONNECT http://a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n":                        false,
		"CONNECT a.test:443/x HTTP/1.1\r\nHost: a.test:443\r\n\r\n":                             false,
		"CONNECT a.test:99999999 HTTP/1.1\r\nHost: a.test:99999999\r\n\r\n":                     true, // no port for who dials
		"CONNECT * HTTP/1.1\r\nHost: a.test:443\r\n\r\n":                                        false,
		"CONNECT a.test:x HTTP/1.1\r\nHost: a.test:x\r\n\r\n":                                   false,
		"CONNECT a.test:443 HTTP/1.1\r\nHost: b.test:443\r\n\r\n":                               false,
		"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\nContent-Length: 1\r\n\r\n":          false,
		"CONNECT /x HTTP/1.1\r\nHost: a.test\r\n\r\n":                                           false,
		"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\nTransfer-Encoding: chunked\r\n\r\n": false,
	} {
		if _, _, err := through(limits, text); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// Bytes after a request to switch protocols are judged only once it is clear
// that they are HTTP.
func TestUpgrade(t *testing.T) {
	upgrade := "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
	buf := make([]byte, 4096)
	begin := func(next string) *Conn {
		c := NewConn(&script{text: []byte(upgrade + next)}, Limits{})
		if n, err := c.Read(buf); err != nil || string(buf[:n]) != upgrade {
			t.Fatalf("%q, %v", buf[:n], err)
		}
		if n, err := c.Read(buf); err != nil || string(buf[:n]) != next[:1] {
			t.Fatalf("look ahead: %q, %v", buf[:n], err)
		}
		return c
	}
	switched := begin("\x81\x05hello\n\n")
	switched.Release()
	if rest, err := io.ReadAll(switched); err != nil || string(rest) != "\x05hello\n\n" {
		t.Errorf("switched: %q, %v", rest, err)
	}
	if rest, err := io.ReadAll(begin(good + good)); err != nil || string(rest) != good[1:]+good {
		t.Errorf("not switched: %q, %v", rest, err)
	}
	var e *Error
	if _, err := io.ReadAll(begin("\x81\x05hello\n\n")); !errors.As(err, &e) {
		t.Errorf("not switched and no HTTP: %v", err)
	}
	if _, err := io.ReadAll(begin("\n" + good)); !errors.As(err, &e) {
		t.Errorf("not switched and a line feed: %v", err)
	}
}

func TestReadAllocatesNothing(t *testing.T) {
	text := []byte("POST /v1/charges HTTP/1.1\r\nHost: api.test\r\nContent-Length: 2\r\nAccept: */*\r\nAuthorization: Bearer x\r\n\r\nhi")
	s := &script{}
	c := NewConn(s, Limits{})
	buf := make([]byte, 4096)
	if n := testing.AllocsPerRun(100, func() {
		s.text = text
		if n, err := c.Read(buf); n != len(text) || err != nil {
			t.Error(n, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a read", n)
	}
}

func BenchmarkHead(b *testing.B) {
	text := []byte("POST /v1/charges?expand=customer HTTP/1.1\r\nHost: api.stripe.com\r\nUser-Agent: Stripe/v1 PythonBindings/7.0\r\nAccept: */*\r\n" +
		"Accept-Encoding: gzip, deflate\r\nAuthorization: Bearer vault:stripe\r\nContent-Type: application/x-www-form-urlencoded\r\n" +
		"Idempotency-Key: 7b5f6c1e-6c7a-4b60-9d6e-9c1f2a3b4c5d\r\nStripe-Version: 2024-06-20\r\nContent-Length: 11\r\n\r\namount=1099")
	s := &script{}
	c := NewConn(s, Limits{})
	buf := make([]byte, 4096)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		s.text = text
		if _, err := c.Read(buf); err != nil {
			b.Fatal(err)
		}
	}
}
