package redact

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"

	"sallyport/control/api"
)

func TestBodyHidesEveryEncodingAtEverySplit(t *testing.T) {
	patterns := Compile(material(), [][]byte{basic()})
	for name, s := range encodings(t) {
		text := `{"echo":"` + s + `"}`
		want := `{"echo":"` + strings.Repeat("*", len(s)) + `"}`
		for split := 1; split < len(text); split++ {
			resp := response("")
			resp.Body = io.NopCloser(io.MultiReader(strings.NewReader(text[:split]), strings.NewReader(text[split:])))
			r := patterns.Redactor()
			if err := r.Response(resp); err != nil {
				t.Fatal(err)
			}
			if got := read(t, resp); got != want {
				t.Fatalf("%s split at %d:\ngot  %s\nwant %s", name, split, got, want)
			}
			if r.Count() < 1 {
				t.Fatalf("%s: count %d", name, r.Count())
			}
		}
	}
}

func TestBase64HidesEveryBitOfTheToken(t *testing.T) {
	r := New(material(), nil)
	for _, s := range base64s() {
		resp := response(s)
		if err := r.Response(resp); err != nil {
			t.Fatal(err)
		}
		got := read(t, resp)
		plain := strings.Map(func(c rune) rune {
			if c == '*' {
				return 'A'
			}
			return c
		}, strings.TrimRight(got, "="))
		if len(got) != len(s) || !strings.Contains(got, "***") {
			t.Fatalf("%s came out as %s", s, got)
		}
		decoded, err := base64.RawURLEncoding.DecodeString(strings.NewReplacer("+", "-", "/", "_").Replace(plain))
		if err != nil {
			t.Fatal(err)
		}
		for n := 2; n <= len(canary); n++ {
			if bytes.Contains(decoded, []byte(canary[:n])) || bytes.Contains(decoded, []byte(canary[len(canary)-n:])) {
				t.Fatalf("%s gives away %q", got, decoded)
			}
		}
	}
}

func TestTokenThatIsAnEncodingItself(t *testing.T) {
	token := base64.StdEncoding.EncodeToString([]byte("admin:correct-horse-battery"))
	for _, s := range []string{"admin:correct-horse-battery", "correct-horse-battery", url.QueryEscape("admin:correct-horse-battery")} {
		resp := response("<" + s + ">")
		if err := New(api.Material{Token: []byte(token)}, nil).Response(resp); err != nil {
			t.Fatal(err)
		}
		if got := read(t, resp); strings.Contains(got, "horse") {
			t.Errorf("left %q", got)
		}
	}
}

func TestShortTokenIsRefused(t *testing.T) {
	m := api.Material{Token: []byte("1234567")}
	if err := Check(m); !errors.Is(err, ErrShortToken) {
		t.Errorf("Check: %v", err)
	}
	if err := New(m, nil).Response(response("1234567")); !errors.Is(err, ErrShortToken) {
		t.Errorf("Response: %v", err)
	}
	if err := Check(api.Material{Token: []byte("12345678")}); err != nil {
		t.Errorf("Check of 8 bytes: %v", err)
	}
}

// TestShortTokenIsNotMasked: an answer that holds a token that can be guessed is
// refused, wherever it is, and however encoded.
func TestShortTokenIsNotMasked(t *testing.T) {
	const token = "Tr0ub4dor&3" // as in xkcd.com/936
	patterns := Compile(api.Material{Username: "user", Token: []byte(token)}, [][]byte{[]byte("Basic " + base64.StdEncoding.EncodeToString([]byte("user:"+token)))})
	for name, s := range map[string]string{
		"raw": token, "query": url.QueryEscape(token), "html": html.EscapeString(token), "hex": hex.EncodeToString([]byte(token)),
		"basic": base64.StdEncoding.EncodeToString([]byte("user:" + token)),
	} {
		for place, resp := range map[string]*http.Response{
			"header": {Header: http.Header{"Location": {"/?" + s}}}, "name": {Header: http.Header{"X-" + s: {"y"}}}, "status": {Status: "200 " + s},
			"trailer":      {Body: io.NopCloser(strings.NewReader("x")), Trailer: http.Header{"X-End": {s}}},
			"late trailer": {}, "body": {Body: io.NopCloser(strings.NewReader("before " + s + " after"))},
			"body of single bytes": {Body: io.NopCloser(iotest.OneByteReader(strings.NewReader(s)))},
		} {
			if place == "late trailer" {
				resp.Body = io.NopCloser(readerFunc(func([]byte) (int, error) {
					resp.Trailer = http.Header{"X-End": {s}}
					return 0, io.EOF
				}))
			}
			if place == "name" && name == "html" {
				continue // a name has no semicolon
			}
			if resp.Header == nil {
				resp.Header = http.Header{}
			}
			err := patterns.Redactor().Response(resp)
			var passed []byte
			if err == nil && resp.Body != nil {
				passed, err = io.ReadAll(resp.Body)
			}
			if !errors.Is(err, ErrReflected) || bytes.Contains(passed, []byte(s)) || bytes.Contains(passed, []byte("*")) {
				t.Errorf("%s in the %s: %v, passed on %q", name, place, err, passed)
			}
		}
	}
	resp := response("Tr0ub4dor and &3")
	if err := patterns.Redactor().Response(resp); err != nil {
		t.Fatal(err)
	}
	if got := read(t, resp); got != "Tr0ub4dor and &3" {
		t.Errorf("an answer without it came as %q", got)
	}
}

// TestUpgradedConnection: of what a 101 begins only the head is searched here, and
// the rest is handed on, for its messages to be.
func TestUpgradedConnection(t *testing.T) {
	resp := response("")
	resp.StatusCode = http.StatusSwitchingProtocols
	resp.Header.Set("X-Echo", canary)
	connection := struct{ io.ReadWriteCloser }{}
	resp.Body = connection
	if err := newRedactor().Response(resp); err != nil {
		t.Fatal(err)
	}
	if resp.Body != connection {
		t.Error("the connection was wrapped")
	}
	if got := resp.Header.Get("X-Echo"); got != strings.Repeat("*", len(canary)) {
		t.Errorf("the head says %q", got)
	}
}

// TestWebSocketExtensions: none is offered, and who answers one anyway would send
// what can't be read.
func TestWebSocketExtensions(t *testing.T) {
	r := &http.Request{Method: "GET", Header: http.Header{"Sec-Websocket-Extensions": {"permessage-deflate"}}}
	Request(r)
	if r.Header.Get("Sec-Websocket-Extensions") != "" {
		t.Errorf("offered: %v", r.Header)
	}
	resp := response("")
	resp.StatusCode = http.StatusSwitchingProtocols
	resp.Header.Set("Sec-Websocket-Extensions", "permessage-deflate")
	if err := newRedactor().Response(resp); !errors.Is(err, ErrEncoding) {
		t.Errorf("answered: %v", err)
	}
}

// An event goes on as soon as it is there, unless its end may begin a secret.
func TestEventsAreNotHeldBack(t *testing.T) {
	pr, pw := io.Pipe()
	resp := response("")
	resp.Body = pr
	if err := newRedactor().Response(resp); err != nil {
		t.Fatal(err)
	}
	go func() {
		for range 3 {
			if _, err := io.WriteString(pw, "data: "+canary+"\n\n"); err != nil {
				return
			}
		}
		_ = pw.Close()
	}()
	want := "data: " + strings.Repeat("*", len(canary)) + "\n\n"
	buf := make([]byte, 4096)
	for range 3 {
		n, err := resp.Body.Read(buf)
		if err != nil || string(buf[:n]) != want {
			t.Errorf("read %q, %v", buf[:n], err)
		}
	}
}

func TestRequest(t *testing.T) {
	get, err := http.NewRequestWithContext(t.Context(), "GET", "https://api.test/", nil)
	if err != nil {
		t.Fatal(err)
	}
	put := get.Clone(t.Context())
	put.Method = "PUT"
	for _, r := range []*http.Request{get, put} {
		r.Header = http.Header{
			"Accept-Encoding": {"gzip, br"}, "Range": {"bytes=0-1"}, "If-Range": {`"v"`}, "If-None-Match": {`"v"`},
			"If-Match": {`"v"`}, "Grpc-Accept-Encoding": {"gzip"}, "Accept": {"*/*"}, "X-Ms-Range": {"bytes=0-1"}, "Request-Range": {"bytes=0-1"},
		}
		Request(r)
	}
	if got := fmt.Sprint(get.Header); got != "map[Accept:[*/*] Accept-Encoding:[identity] Grpc-Accept-Encoding:[identity]]" {
		t.Errorf("GET: %s", got)
	}
	grpc := get.Clone(t.Context())
	grpc.Header = http.Header{"Content-Type": {"application/grpc+proto"}}
	if Request(grpc); grpc.Header.Get("Grpc-Accept-Encoding") != "identity" {
		t.Errorf("gRPC: %v", grpc.Header)
	}
	if put.Header.Get("If-Match") != `"v"` || put.Header.Get("If-None-Match") != `"v"` || put.Header.Get("Range") != "" {
		t.Errorf("PUT: %v", put.Header)
	}
}

// A part of what was asked for as a whole may begin or end in the secret.
func TestPartsAreRefused(t *testing.T) {
	for _, tt := range []struct {
		status      int
		field, text string
		refused     bool
	}{
		{206, "Content-Range", "bytes 0-5/100", true},
		{206, "Content-Range", "Bytes 0-5/*", true},
		{206, "Content-Type", "multipart/byteranges; boundary=x", true},
		{200, "Content-Type", "Multipart/Byteranges; boundary=x", true},
		{206, "Content-Type", "multipart/x-byteranges; boundary=x", true}, // to Request-Range
		{226, "Im", "feed", true},
		{206, "Content-Range", "0-9/573", false}, // rows, which some services count so
		{206, "Content-Type", "application/json", false},
		{200, "Content-Type", "application/json", false},
	} {
		resp := response("part")
		resp.StatusCode = tt.status
		resp.Header.Set(tt.field, tt.text)
		if err := newRedactor().Response(resp); errors.Is(err, ErrPart) != tt.refused || err != nil && !tt.refused {
			t.Errorf("%d, %s: %s: %v", tt.status, tt.field, tt.text, err)
		}
	}
}

// What one request bears alone may come in a part of an answer, and no cut shows enough
// of it to guess the rest. Several parts in one answer could show all of it.
func TestPartsOfASignature(t *testing.T) {
	signature := hex.EncodeToString([]byte("a signature of thirty-two bytes!"))
	shown := func(text string) (longest int) {
		for from := range signature {
			for to := from + longest + 1; to <= len(signature) && strings.Contains(text, signature[from:to]); to++ {
				longest = to - from
			}
		}
		return longest
	}
	for cut := range signature {
		for _, text := range []string{signature[cut:] + " and more", "Signature=" + signature[:cut]} {
			resp := response(text)
			resp.StatusCode = http.StatusPartialContent
			resp.Header.Set("Content-Range", "bytes 1-100/200")
			if err := CompileOnce([]byte(signature)).Once().Response(resp); err != nil {
				t.Fatal(err)
			}
			if got := read(t, resp); shown(got) > 15 || len(got) != len(text) {
				t.Errorf("%d of it are shown: %s", shown(got), got)
			}
		}
	}
	resp := response("--x\r\n\r\n" + signature[:30] + "\r\n--x\r\n\r\n" + signature[30:])
	resp.StatusCode = http.StatusPartialContent
	resp.Header.Set("Content-Type", "multipart/byteranges; boundary=x")
	if err := CompileOnce([]byte(signature)).Once().Response(resp); !errors.Is(err, ErrPart) {
		t.Errorf("several parts in one answer: %v", err)
	}
}

// Digests are of what was sent, wherever they are said.
func TestDigestsAreDropped(t *testing.T) {
	resp := response("body")
	resp.ContentLength = -1
	for _, name := range []string{"Digest", "Content-MD5", "Content-Digest", "Repr-Digest"} {
		resp.Header.Set(name, "x")
	}
	resp.Trailer = http.Header{"Digest": nil, "X-End": nil}
	resp.Body = io.NopCloser(readerFunc(func([]byte) (int, error) {
		resp.Trailer = http.Header{"Content-Digest": {"x"}, "X-End": {"y"}}
		return 0, io.EOF
	}))
	if err := newRedactor().Response(resp); err != nil {
		t.Fatal(err)
	}
	read(t, resp)
	if got := fmt.Sprint(resp.Header, resp.Trailer); got != "map[] map[X-End:[y]]" {
		t.Errorf("passed on %s", got)
	}
}

// Redaction that stopped after so many finds has leaked secrets elsewhere.
func TestNoFindIsOneTooMany(t *testing.T) {
	const times = 20000
	resp := response(strings.Repeat(canary+",", times))
	r := newRedactor()
	if err := r.Response(resp); err != nil {
		t.Fatal(err)
	}
	if got := read(t, resp); got != strings.Repeat(strings.Repeat("*", len(canary))+",", times) {
		t.Errorf("left some of %d", times)
	}
	if r.Count() != times {
		t.Errorf("count %d", r.Count())
	}
}

func TestWipe(t *testing.T) {
	r := newRedactor()
	r.Wipe()
	h := http.Header{"A": {canary}}
	if n := r.Header(h); n != 0 {
		t.Errorf("a wiped redactor still knows the token")
	}
	for _, name := range r.patterns.names {
		if strings.Trim(string(name), "\x00") != "" {
			t.Errorf("left %q", name)
		}
	}
}
