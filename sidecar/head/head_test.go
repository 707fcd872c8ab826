package head_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sallyport/sidecar/head"
)

// requests are heads of every kind, and what could be taken for one.
var requests = []string{
	"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"GET /v1/x?limit=3&a=%20b HTTP/1.1\r\nHost: a.test:8443\r\nUser-Agent: curl/8\r\nAccept: */*\r\naccept-encoding: gzip\r\nX-A: 1\r\nx-a: 2\r\n\r\nGET",
	"POST /v1/x HTTP/1.1\r\nhost: a.test\r\ncontent-length: 5\r\ncontent-type: text/plain\r\n\r\nhello, and more",
	"POST /v1/x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 50\r\n\r\ncut short",
	"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
	"GET / HTTP/1.1\r\nHost: a.test\r\nContent-Length: +3\r\n\r\nabc",
	"GET / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 9223372036854775808\r\n\r\nabc",
	"GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n",
	"GET / HTTP/1.1\r\nX: 1\r\n\r\n",
	"GET / HTTP/1.1\r\n\r\n",
	"GET / HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive, X-A\r\nX-A: 1\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nframe",
	"GET / HTTP/1.1\r\nHost: a.test\r\nPragma: no-cache\r\n\r\n",
	"GET / HTTP/1.1\nHost: a.test\n\nrest",
	"GET / HTTP/1.1\r\nHost: a.test\n\r\nX: 1\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a.test\r\nX: a\r\n b\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a.test\r\nX : 1\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a.test\r\n: 1\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a.test\r\nX: \x01\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a.test\r\nX: \x80\xff\r\nX_Y: \t z \t\r\n\r\n",
	"GET  / HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"GET / HTTP/1.1 \r\nHost: a.test\r\n\r\n",
	"G@T / HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"GET /%zz HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"GET //b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"GET http://b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n",
	"OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a.test\r\nX: " + strings.Repeat("long", 2000) + "\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a.te",
	"",
}

// TestReadRequest compares with net/http, also where a head comes byte by byte.
func TestReadRequest(t *testing.T) {
	for _, text := range requests {
		compareRequests(t, text, strings.NewReader(text))
		compareRequests(t, text, iotest.OneByteReader(strings.NewReader(text)))
	}
}

func FuzzReadRequest(f *testing.F) {
	for _, text := range requests {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) { compareRequests(t, text, strings.NewReader(text)) })
}

func compareRequests(t *testing.T, text string, from io.Reader) {
	t.Helper()
	wantIn, gotIn := bufio.NewReader(strings.NewReader(text)), bufio.NewReader(from)
	want, wantErr := http.ReadRequest(wantIn)
	got, gotErr := head.ReadRequest(gotIn)
	if cmp.Diff(errorText(wantErr), errorText(gotErr)) != "" {
		t.Fatalf("%q: net/http says %v, this %v", text, wantErr, gotErr)
	}
	if wantErr != nil {
		return
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(http.Request{}), cmpopts.IgnoreFields(http.Request{}, "Body", "Trailer"), cmp.AllowUnexported(url.Userinfo{})); diff != "" {
		t.Fatalf("%q: net/http is -, this +:\n%s", text, diff)
	}
	compareBodies(t, text, want.Body, got.Body)
	compareRest(t, text, wantIn, gotIn)
}

var responses = []string{
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\nhelloHTTP/1.1",
	"HTTP/1.1 404 Not Found\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\ncontent-length: 2\r\n\r\n{}",
	"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello",
	"HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhello",
	"HTTP/1.1  200  OK\r\nContent-Length: 5\r\n\r\nhello",
	"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello",
	"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello",
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: x, close\r\n\r\nhello",
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
	"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n",
	"HTTP/1.1 200 OK\r\n\r\nuntil the end",
	"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
	"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
	"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
	"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n",
	"HTTP/1.1 20 OK\r\nContent-Length: 5\r\n\r\nhello",
	"HTTP/1.1 +20 OK\r\nContent-Length: 5\r\n\r\nhello",
	"HTTP/1.1 999 OK\r\nContent-Length: 5\r\n\r\nhello",
	"HTTP/2.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
	"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: a\r\n\tb\r\n\r\nhello",
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX Y: a\r\n\r\nhello",
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nPragma: no-cache\r\n\r\nhello",
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: \x00\r\n\r\nhello",
	"HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
	"nonsense\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Le",
	"",
}

func TestReadResponse(t *testing.T) {
	for _, text := range responses {
		for _, method := range []string{"GET", "HEAD"} {
			compareResponses(t, text, method, strings.NewReader(text))
			compareResponses(t, text, method, iotest.OneByteReader(strings.NewReader(text)))
		}
	}
}

func FuzzReadResponse(f *testing.F) {
	for _, text := range responses {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) { compareResponses(t, text, "GET", strings.NewReader(text)) })
}

func compareResponses(t *testing.T, text, method string, from io.Reader) {
	t.Helper()
	to := &http.Request{Method: method}
	wantIn, gotIn := bufio.NewReader(strings.NewReader(text)), bufio.NewReader(from)
	want, wantErr := http.ReadResponse(wantIn, to)
	got, gotErr := head.ReadResponse(gotIn, to)
	if cmp.Diff(errorText(wantErr), errorText(gotErr)) != "" {
		t.Fatalf("%q: net/http says %v, this %v", text, wantErr, gotErr)
	}
	if wantErr != nil {
		return
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(http.Response{}, "Body", "Request", "Close", "Trailer")); diff != "" {
		t.Fatalf("%q: net/http is -, this +:\n%s", text, diff)
	}
	if want.Close && !got.Close {
		t.Fatalf("%q: net/http closes the connection, this does not", text)
	}
	compareBodies(t, text, want.Body, got.Body)
	compareRest(t, text, wantIn, gotIn)
}

// TestNoHTTP has an upstream that speaks another protocol and waits to be spoken to.
func TestNoHTTP(t *testing.T) {
	waits := errors.New("the upstream waits")
	for _, text := range []string{"220 smtp.test ESMTP\r\n", "SSH-2.0-x\r\n", "H\r\n", "\x16\x03\x01\x00\x05hello\r\n"} {
		in := bufio.NewReader(io.MultiReader(strings.NewReader(text), iotest.ErrReader(waits)))
		if _, err := head.ReadResponse(in, &http.Request{Method: "GET"}); err == nil || errors.Is(err, waits) {
			t.Errorf("%q: %v, before more was read", text, err)
		}
	}
}

// TestTwoFramings wants a connection closed after what could be read in two ways.
func TestTwoFramings(t *testing.T) {
	for text, want := range map[string]bool{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello":                                                      false,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n":                                         false,
		"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n":                    true,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: 1\r\nContent-Length: 5\r\n\r\n0\r\n\r\n":            true,
		"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nContent-Length: 5\n\n0\r\n\r\n":                            true,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: " + strings.Repeat("x", 5000) + "\r\n\r\n0\r\n\r\n": true,
	} {
		r, err := head.ReadResponse(bufio.NewReader(strings.NewReader(text)), &http.Request{Method: "GET"})
		if err != nil || r.Close != want {
			t.Errorf("%q: %v, %v; want Close %v", text, r, err, want)
		}
	}
}

func TestWriteRequest(t *testing.T) {
	for _, text := range requests {
		compareWritten(t, text)
	}
}

func FuzzWriteRequest(f *testing.F) {
	for _, text := range requests {
		f.Add(text)
	}
	f.Fuzz(compareWritten)
}

// compareWritten sends on what can be read as a request, with fields that another
// would have to be written for.
func compareWritten(t *testing.T, text string) {
	read := func() *http.Request {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
		if err != nil {
			return nil
		}
		if r.Body == http.NoBody {
			r.Body = nil
		}
		r.Header["X-Odd"] = []string{" a\r\nInjected: 1\n ", "\t"}
		r.Header["Not a name"] = []string{"1"}
		return r
	}
	want, got := read(), read()
	if want == nil || want.URL.Host == "" && want.Host == "" {
		return
	}
	var wantText, gotText bytes.Buffer
	wantErr := want.Write(&wantText)
	w := bufio.NewWriterSize(&gotText, 64)
	gotErr := errors.Join(head.WriteRequest(w, got), w.Flush())
	if (wantErr == nil) != (gotErr == nil) {
		t.Fatalf("%q: net/http says %v, this %v", text, wantErr, gotErr)
	}
	if wantErr == nil && wantText.String() != gotText.String() {
		t.Fatalf("%q: net/http writes\n%q, this\n%q", text, wantText.String(), gotText.String())
	}
}

func compareBodies(t *testing.T, text string, want, got io.Reader) {
	t.Helper()
	wantBody, wantErr := io.ReadAll(want)
	gotBody, gotErr := io.ReadAll(got)
	if !bytes.Equal(wantBody, gotBody) || errorText(wantErr) != errorText(gotErr) {
		t.Fatalf("%q: net/http reads the body %q, %v; this %q, %v", text, wantBody, wantErr, gotBody, gotErr)
	}
}

func compareRest(t *testing.T, text string, want, got io.Reader) {
	t.Helper()
	wantRest, _ := io.ReadAll(want)
	gotRest, _ := io.ReadAll(got)
	if !bytes.Equal(wantRest, gotRest) {
		t.Fatalf("%q: net/http leaves %q, this %q", text, wantRest, gotRest)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func BenchmarkReadRequest(b *testing.B) {
	text := "GET /v1/charges?limit=3 HTTP/1.1\r\nHost: example.com\r\nUser-Agent: bench\r\nAccept: */*\r\nAuthorization: Bearer vault:key\r\n\r\n"
	for name, read := range map[string]func(*bufio.Reader) (*http.Request, error){"net": http.ReadRequest, "head": head.ReadRequest} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			from := strings.NewReader(text)
			in := bufio.NewReader(from)
			for b.Loop() {
				from.Reset(text)
				in.Reset(from)
				if _, err := read(in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
