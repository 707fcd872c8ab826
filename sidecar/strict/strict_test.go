package strict

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

const good = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"

// request gives a GET with these lines after its request line.
func request(lines ...string) string {
	return "GET / HTTP/1.1\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
}

func chunked(body string) string {
	return "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n" + body
}

var accepted = []string{
	good,
	"GET /a%2Fb/..;/c?x=%zz&y=|{}\" HTTP/1.1\r\nhost:a.test:443\r\nX-Empty:\r\nX-Obs: \xe9\t.\r\n\r\n",
	"OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"TRACE / HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"GET / HTTP/1.0\r\nHost: a.test\r\n\r\n",
	"POST / HTTP/1.0\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nhi",
	"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
	"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 18\r\n\r\nGET / HTTP/1.1\r\n\r\n" + good,
	chunked("5\r\nhello\r\n0\r\n\r\n"),
	chunked("A\r\n0123456789\r\n00b\r\nGET / HTTP\n\r\n000\r\n\r\n"),
	strings.Repeat(good, 3),
	chunked("1\r\na\r\n0\r\n\r\n") + good + chunked("0\r\n\r\n") + good,
	"GET / HTTP/1.1\r\nHost: a.test\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n" + good,
	"GET / HTTP/1.1\r\nHost: a.test\r\nTrailer: Checksum\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
	"M-SEARCH / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
}

var refused = map[string]string{
	"CL and TE":              "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"TE and CL":              "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
	"CL twice":               request("Host: a.test", "Content-Length: 0", "Content-Length: 0"),
	"CL differs":             request("Host: a.test", "Content-Length: 0", "Content-Length: 1"),
	"CL list":                request("Host: a.test", "Content-Length: 0, 0"),
	"CL sign":                request("Host: a.test", "Content-Length: +0"),
	"CL hex":                 request("Host: a.test", "Content-Length: 0x1"),
	"CL empty":               request("Host: a.test", "Content-Length:"),
	"CL too long":            request("Host: a.test", "Content-Length: 9999999999999999999"),
	"CL underscore":          request("Host: a.test", "Content_Length: 3"),
	"CL dot":                 request("Host: a.test", "content.length: 3"),
	"TE underscore":          request("Host: a.test", "Transfer_Encoding: chunked"),
	"TE gzip":                request("Host: a.test", "Transfer-Encoding: gzip, chunked"),
	"TE identity":            request("Host: a.test", "Transfer-Encoding: identity"),
	"TE twice":               request("Host: a.test", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
	"TE vertical tab":        request("Host: a.test", "Transfer-Encoding: \x0bchunked"),
	"TE in HTTP/1.0":         "POST / HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"bare LF":                "GET / HTTP/1.1\nHost: a.test\n\n",
	"bare LF in a field":     "GET / HTTP/1.1\r\nHost: a.test\r\nA: b\nC: d\r\n\r\n",
	"bare LF at the end":     "GET / HTTP/1.1\r\nHost: a.test\r\n\n",
	"bare CR":                request("Host: a.test", "A: b\rC: d"),
	"CR CR LF":               "GET / HTTP/1.1\r\nHost: a.test\r\r\n\r\n",
	"obs-fold":               request("Host: a.test", "A: b", " c"),
	"obs-fold by tab":        request("Host: a.test", "A: b", "\tc"),
	"first field folded":     request(" Host: a.test"),
	"empty line first":       "\r\n" + good,
	"HTTP/1.9":               "GET / HTTP/1.9\r\nHost: a.test\r\n\r\n",
	"HTTP/2.0":               "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	"HTTP/0.9":               "GET /\r\n\r\n",
	"http/1.1":               "GET / http/1.1\r\nHost: a.test\r\n\r\n",
	"HTTP/1.1 and more":      "GET / HTTP/1.1 \r\nHost: a.test\r\n\r\n",
	"two spaces":             "GET  / HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"tab for space":          "GET\t/\tHTTP/1.1\r\nHost: a.test\r\n\r\n",
	"no method":              " / HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"method of no token":     "G@T / HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"no Host":                request("A: b"),
	"no Host in 1.0":         "GET / HTTP/1.0\r\n\r\n",
	"empty Host":             request("Host:"),
	"two Hosts":              request("Host: a.test", "Host: a.test"),
	"Host list":              request("Host: a.test,b.test"),
	"Host with user":         request("Host: u@a.test"),
	"Host with a path":       request("Host: a.test/x"),
	"Host with a space":      request("Host: a.test b.test"),
	"Host not ASCII":         request("Host: \xc3\xa4.test"),
	"absolute-form":          "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"CONNECT":                "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n",
	"authority-form":         "GET a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"target *":               "GET * HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"target with #":          "GET /#a HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"target with backslash":  "GET /a\\b HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"target not ASCII":       "GET /\xc3\xa4 HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"target with NUL":        "GET /\x00 HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"target with DEL":        "GET /\x7f HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"target badly encoded":   "GET /%2 HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"space before the colon": request("Host: a.test", "A : b"),
	"no colon":               request("Host: a.test", "A"),
	"no name":                request("Host: a.test", ": b"),
	"name not a token":       request("Host: a.test", "A(b): c"),
	"NUL in a value":         request("Host: a.test", "A: \x00"),
	"BEL in a value":         request("Host: a.test", "A: \x07"),
	"DEL in a value":         request("Host: a.test", "A: \x7f"),
	"unknown expectation":    request("Host: a.test", "Expect: more"),
	"Trailer of a length":    request("Host: a.test", "Trailer: a, content-length"),
	"chunk extension":        chunked("5;a=b\r\nhello\r\n0\r\n\r\n"),
	"last chunk extension":   chunked("0;a\r\n\r\n"),
	"chunk with a space":     chunked("5 \r\nhello\r\n0\r\n\r\n"),
	"chunk with a sign":      chunked("+5\r\nhello\r\n0\r\n\r\n"),
	"chunk in C":             chunked("0x5\r\nhello\r\n0\r\n\r\n"),
	"chunk without size":     chunked("\r\nhello\r\n0\r\n\r\n"),
	"chunk too large":        chunked("8000000000000000\r\n"),
	"chunk by bare LF":       chunked("5\nhello\r\n0\r\n\r\n"),
	"chunk by LF in size":    chunked("5\r\nhello\n0\r\n\r\n"),
	"chunk longer than said": chunked("4\r\nhello\r\n0\r\n\r\n"),
	"chunk shorter":          chunked("6\r\nhello\r\n0\r\n\r\n"),
	"last line by bare LF":   chunked("0\r\n\n"),
	"bad trailer":            chunked("0\r\nA : b\r\n\r\n"),
	"trailer by bare LF":     chunked("0\r\nA: b\n\r\n"),
	"trailer folded":         chunked("0\r\nA: b\r\n c\r\n\r\n"),
	"CR alone in trailers":   chunked("0\r\n\rA: b\r\n\r\n"),
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
		"CONNECT a.test HTTP/1.1\r\nHost: a.test\r\n\r\n":                                       false,
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

// oneConn is a listener that has one connection.
type oneConn chan net.Conn

func (l oneConn) Accept() (net.Conn, error) {
	c, ok := <-l
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (l oneConn) Close() error   { return nil }
func (l oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// serve has net/http serve a connection through a Conn and gives the client's side.
func serve(t *testing.T, handler http.HandlerFunc) net.Conn {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	conns := make(oneConn, 1)
	conns <- NewConn(accepted, Limits{})
	server := &http.Server{Handler: handler, DisableGeneralOptionsHandler: true, ConnState: func(c net.Conn, s http.ConnState) {
		if s == http.StateHijacked {
			c.(*Conn).Release()
		}
	}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(conns)
	}()
	t.Cleanup(func() {
		_ = client.Close()
		close(conns)
		<-done
		if err := server.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return client
}

func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var e *Error
	if errors.As(err, &e) {
		w.WriteHeader(e.Status)
		fmt.Fprint(w, e.Code)
		return
	}
	fmt.Fprintf(w, "%s %s %s", r.Method, r.RequestURI, body)
}

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, r *bufio.Reader) (*http.Response, string) {
	t.Helper()
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestServerPipelinesAndRefuses(t *testing.T) {
	c := serve(t, echo)
	r := bufio.NewReader(c)
	send(t, c, "PUT /1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\none"+chunked("3\r\ntwo\r\n0\r\nA: b\r\n\r\n")+
		"GET /3 HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\nGET /4 HTTP/1.1\r\nHost: a.test\r\n\r\n")
	for _, want := range []string{"PUT /1 one", "POST / two"} {
		if _, body := receive(t, r); body != want {
			t.Errorf("got %q, want %q", body, want)
		}
	}
	resp, body := receive(t, r)
	if resp.StatusCode != 400 || resp.Header.Get("Sallyport-Error") != "malformed_request" || !strings.Contains(body, "one Host") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if rest, err := io.ReadAll(r); len(rest) > 0 || err != nil {
		t.Errorf("after the refusal: %q, %v", rest, err)
	}
}

func TestServerRefusalInBodyIsTheHandlers(t *testing.T) {
	c := serve(t, echo)
	r := bufio.NewReader(c)
	send(t, c, chunked("3;x=y\r\ntwo\r\n0\r\n\r\n")+good)
	if resp, body := receive(t, r); resp.StatusCode != 400 || body != "malformed_request" {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if rest, err := io.ReadAll(r); len(rest) > 0 {
		t.Errorf("after the refusal: %q, %v", rest, err)
	}
}

func TestServerUpgrade(t *testing.T) {
	c := serve(t, func(_ http.ResponseWriter, _ *http.Request) {})
	r := bufio.NewReader(c)
	send(t, c, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"+good)
	for range 2 { // declined, so what follows is the next request
		if resp, _ := receive(t, r); resp.StatusCode != 200 {
			t.Errorf("status %d", resp.StatusCode)
		}
	}

	c = serve(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		if err := rw.Flush(); err != nil {
			t.Error(err)
		}
		if _, err := io.Copy(conn, rw); err != nil {
			t.Error(err)
		}
	})
	r = bufio.NewReader(c)
	send(t, c, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != 101 {
		t.Fatalf("%v, %v", resp, err)
	}
	send(t, c, "\x00\n\x81 raw")
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(r); err != nil || string(rest) != "\x00\n\x81 raw" {
		t.Errorf("%q, %v", rest, err)
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
