package redact

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"sallyport/control/api"
)

const canary = `sk_live/4eC39+Hq&"Lyj<Wé=`

func material() api.Material { return api.Material{Username: "user", Token: []byte(canary)} }

func basic() []byte {
	return []byte("Basic " + base64.StdEncoding.EncodeToString([]byte("user:"+canary)))
}

func newRedactor() *Redactor { return New(material(), [][]byte{[]byte("Bearer " + canary), basic()}) }

func percent(s, format string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, format, s[i])
	}
	return b.String()
}

// encodings are the canary as an upstream may echo it. The value says whether
// all of the text must be hidden, or if "" the part that must.
func encodings(t testing.TB) map[string]string {
	quoted, err := json.Marshal(canary)
	if err != nil {
		t.Fatal(err)
	}
	var jsonEscapes strings.Builder
	for _, r := range canary {
		fmt.Fprintf(&jsonEscapes, `\u%04X`, r)
	}
	all := map[string]string{
		"raw":               canary,
		"query":             url.QueryEscape(canary),
		"path":              url.PathEscape(canary),
		"percent upper":     percent(canary, "%%%02X"),
		"percent lower":     percent(canary, "%%%02x"),
		"json":              strings.Trim(string(quoted), `"`),
		"json slashes":      strings.ReplaceAll(strings.Trim(string(quoted), `"`), "/", `\/`),
		"json all":          jsonEscapes.String(),
		"json all lower":    strings.ReplaceAll(strings.ToLower(jsonEscapes.String()), "U", "u"),
		"html":              html.EscapeString(canary),
		"html python":       strings.NewReplacer("&", "&amp;", "<", "&lt;", `"`, "&quot;", "'", "&#x27;", "/", "&#x2F;").Replace(canary),
		"hex":               hex.EncodeToString([]byte(canary)),
		"hex upper":         strings.ToUpper(hex.EncodeToString([]byte(canary))),
		"basic":             string(basic()[len("Basic "):]),
		"basic url escaped": url.QueryEscape(string(basic()[len("Basic "):])),
	}
	return all
}

// base64s are texts that hold the canary somewhere, encoded.
func base64s() []string {
	var all []string
	for _, before := range []string{"", "x", "xy", "user:"} {
		for _, after := range []string{"", "z", "zz"} {
			for _, e := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
				all = append(all, e.EncodeToString([]byte(before+canary+after)))
			}
		}
	}
	return all
}

func response(body string) *http.Response {
	return &http.Response{
		Status: "200 OK", StatusCode: 200, Header: http.Header{}, ContentLength: int64(len(body)),
		Body: io.NopCloser(strings.NewReader(body)), Request: &http.Request{Method: "GET"},
	}
}

func read(t *testing.T, resp *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

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

func TestHeadersTrailersAndStatus(t *testing.T) {
	all := slices.Concat(slices.Collect(maps.Values(encodings(t))), base64s())
	for _, s := range all {
		resp := response("x")
		resp.Status = "200 " + s
		resp.Header = http.Header{"Location": {"https://api.test/?k=" + s}, "X-Plain": {"plain"}, "Set-Cookie": {"a=b", "c=" + s}}
		resp.Trailer = http.Header{"X-End": {s}}
		r := newRedactor()
		if err := r.Response(resp); err != nil {
			t.Fatal(err)
		}
		read(t, resp)
		if out := fmt.Sprint(resp.Status, resp.Header, resp.Trailer); strings.Contains(out, s) {
			t.Errorf("left in %s", out)
		}
		if resp.Header.Get("X-Plain") != "plain" || resp.Header["Set-Cookie"][0] != "a=b" {
			t.Errorf("changed others: %v", resp.Header)
		}
		if got := len(resp.Header.Get("Location")); got != len("https://api.test/?k="+s) {
			t.Errorf("Location has %d bytes", got)
		}
		if r.Count() < 4 {
			t.Errorf("%s: count %d", s, r.Count())
		}
	}
}

func TestTrailersThatComeWithTheEnd(t *testing.T) {
	resp := response("")
	resp.Body = io.NopCloser(io.MultiReader(strings.NewReader("body"), readerFunc(func([]byte) (int, error) {
		resp.Trailer = http.Header{"X-Echo": {canary}}
		return 0, io.EOF
	})))
	if err := newRedactor().Response(resp); err != nil {
		t.Fatal(err)
	}
	read(t, resp)
	if v := resp.Trailer.Get("X-Echo"); v != strings.Repeat("*", len(canary)) {
		t.Errorf("trailer %q", v)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// HTTP/2 has lower-case names, net/http gives canonical ones: the case of a
// token in a name is lost, which leaves most of it to read.
func TestHeaderNames(t *testing.T) {
	token := "sk_Live_4eC39HqLyjWDarjtT1zdp7dc"
	r := New(api.Material{Token: []byte(token)}, nil)
	for _, name := range []string{token, "x-" + token, hex.EncodeToString([]byte(token)), base64.RawURLEncoding.EncodeToString([]byte("u:" + token))} {
		h := http.Header{http.CanonicalHeaderKey(name): {"v"}, "Content-Security-Policy-Report-Only-And-More": {"w"}}
		if n := r.Header(h); n != 1 {
			t.Errorf("%s: count %d", name, n)
		}
		if len(h) != 2 || h.Get("Content-Security-Policy-Report-Only-And-More") != "w" {
			t.Errorf("headers %v", h)
		}
		for k := range h {
			if strings.Contains(strings.ToLower(k), strings.ToLower(token)) {
				t.Errorf("left the name %s", k)
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

func compress(t testing.TB, coding, text string) string {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch coding {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "deflate":
		w = zlib.NewWriter(&b)
	case "deflate bare":
		w, err = flate.NewWriter(&b, flate.BestSpeed)
	case "br":
		w = brotli.NewWriter(&b)
	case "zstd":
		w, err = zstd.NewWriter(&b)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestCompressedBodies(t *testing.T) {
	text := strings.Repeat("filler ", 1000) + canary + strings.Repeat(" filler", 1000)
	want := strings.ReplaceAll(text, canary, strings.Repeat("*", len(canary)))
	tests := []struct{ header, body string }{
		{"gzip", compress(t, "gzip", text)},
		{"X-Gzip", compress(t, "gzip", text)},
		{"identity, GZIP", compress(t, "gzip", text)},
		{"deflate", compress(t, "deflate", text)},
		{"deflate", compress(t, "deflate bare", text)},
		{"br", compress(t, "br", text)},
		{"zstd", compress(t, "zstd", text)},
		{"gzip, br", compress(t, "br", compress(t, "gzip", text))},
	}
	for _, tt := range tests {
		resp := response(tt.body)
		resp.Header.Set("Content-Encoding", tt.header)
		resp.Header.Set("Content-Length", "1")
		resp.Header.Set("Etag", `"v1"`)
		resp.Body = io.NopCloser(iotest.OneByteReader(resp.Body))
		if err := newRedactor().Response(resp); err != nil {
			t.Fatal(err)
		}
		if got := read(t, resp); got != want {
			t.Errorf("%s: %.60q…", tt.header, got)
		}
		h := resp.Header
		if h.Get("Content-Encoding") != "" || h.Get("Content-Length") != "" || resp.ContentLength != -1 || h.Get("Etag") != `W/"v1"` {
			t.Errorf("%s: head %v, length %d", tt.header, h, resp.ContentLength)
		}
	}
}

func TestUnknownEncodingsAreRefused(t *testing.T) {
	for _, tt := range []struct{ name, value string }{
		{"Content-Encoding", "compress"}, {"Content-Encoding", "gzip, dcb"}, {"Content-Encoding", "gzip, gzip, gzip, gzip"},
		{"Grpc-Encoding", "gzip"}, {"Connect-Content-Encoding", "br"},
	} {
		resp := response("x")
		resp.Header.Set(tt.name, tt.value)
		var e *EncodingError
		if err := newRedactor().Response(resp); !errors.As(err, &e) {
			t.Errorf("%s: %s gave %v", tt.name, tt.value, err)
		}
	}
}

func TestBomb(t *testing.T) {
	for _, coding := range []string{"gzip", "br", "zstd"} {
		resp := response(compress(t, coding, strings.Repeat("\x00", 32<<20)))
		resp.Header.Set("Content-Encoding", coding)
		if err := newRedactor().Response(resp); err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		if !errors.Is(err, ErrRatio) || n > ratioFree+1<<20 {
			t.Errorf("%s: %d bytes, %v", coding, n, err)
		}
	}
}

func TestBrokenCompression(t *testing.T) {
	for _, body := range []string{"not gzip at all", compress(t, "gzip", canary)[:20]} {
		resp := response(body)
		resp.Header.Set("Content-Encoding", "gzip")
		if err := newRedactor().Response(resp); err != nil {
			t.Fatal(err)
		}
		if out, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("%q gave %q without an error", body, out)
		}
	}
}

func TestNoBody(t *testing.T) {
	head := response("")
	head.Request.Method = http.MethodHead
	head.Header.Set("Content-Encoding", "gzip")
	head.Header.Set("Content-Length", "42")
	empty := response("")
	empty.Header.Set("Content-Encoding", "gzip")
	for _, resp := range []*http.Response{head, empty} {
		if err := newRedactor().Response(resp); err != nil {
			t.Fatal(err)
		}
		if got := read(t, resp); got != "" {
			t.Errorf("body %q", got)
		}
	}
	if head.Header.Get("Content-Length") != "42" {
		t.Errorf("head %v", head.Header)
	}
}

func TestUpgradedConnectionStaysWritable(t *testing.T) {
	resp := response("")
	resp.StatusCode = http.StatusSwitchingProtocols
	var sent bytes.Buffer
	resp.Body = struct {
		io.ReadCloser
		io.Writer
	}{io.NopCloser(strings.NewReader("x" + canary)), &sent}
	if err := newRedactor().Response(resp); err != nil {
		t.Fatal(err)
	}
	w, ok := resp.Body.(io.ReadWriteCloser)
	if !ok {
		t.Fatal("the body can't be written to")
	}
	if _, err := io.WriteString(w, "hello"); err != nil || sent.String() != "hello" {
		t.Errorf("sent %q, %v", &sent, err)
	}
	if got := read(t, resp); got != "x"+strings.Repeat("*", len(canary)) {
		t.Errorf("read %q", got)
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
			"If-Match": {`"v"`}, "Grpc-Accept-Encoding": {"gzip"}, "Sec-Websocket-Extensions": {"permessage-deflate"}, "Accept": {"*/*"},
		}
		Request(r)
	}
	if got := fmt.Sprint(get.Header); got != "map[Accept:[*/*] Accept-Encoding:[identity] Grpc-Accept-Encoding:[identity]]" {
		t.Errorf("GET: %s", got)
	}
	if put.Header.Get("If-Match") != `"v"` || put.Header.Get("If-None-Match") != `"v"` || put.Header.Get("Range") != "" {
		t.Errorf("PUT: %v", put.Header)
	}
}

// Whatever surrounds the canary, and however the stream is cut, no listed
// encoding of it comes out, and nothing else is changed.
func FuzzBody(f *testing.F) {
	patterns := Compile(material(), [][]byte{basic()})
	var all []string
	for _, name := range slices.Sorted(maps.Keys(encodings(f))) {
		all = append(all, encodings(f)[name])
	}
	all = append(all, base64s()...)
	for i := range all {
		f.Add([]byte("sk_live%73"), []byte(`\u007`), uint8(i), uint16(i))
	}
	f.Fuzz(func(t *testing.T, before, after []byte, which uint8, split uint16) {
		s := all[int(which)%len(all)]
		text := slices.Concat(before, []byte(s), after)
		cut := int(split) % (len(text) + 1)
		resp := response("")
		resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(text[:cut]), bytes.NewReader(text[cut:])))
		r := patterns.Redactor()
		if err := r.Response(resp); err != nil {
			t.Fatal(err)
		}
		got := []byte(read(t, resp))
		if len(got) != len(text) || r.Count() == 0 {
			t.Fatalf("%d bytes became %d, %d hits", len(text), len(got), r.Count())
		}
		for _, e := range all {
			if bytes.Contains(got, []byte(e)) && !bytes.Contains(append(before, after...), []byte(e)) {
				t.Fatalf("%q left in %q", e, got)
			}
		}
		for i := range text {
			if got[i] != text[i] && got[i] != '*' {
				t.Fatalf("byte %d of %q changed: %q", i, text, got)
			}
		}
	})
}

func BenchmarkBody(b *testing.B) {
	token := "sk_live_4eC39HqLyjWDarjtT1zdp7dcXk29vQmZ0aBcDeFgHiJkLm"
	patterns := Compile(api.Material{Token: []byte(token)}, nil)
	bodies := map[string][]byte{
		"json":   bytes.Repeat([]byte(`{"id":"ch_1NqXYZ2eZvKYlo2C","object":"charge","amount":1099,"url":"https:\/\/pay.example.com\/r?x=%7B1%7D","name":"M\u00fcller &amp; Co"},`), 8<<10),
		"base64": []byte(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("The quick brown fox jumps over 13 lazy dogs; "), 20<<10))),
		"zeros":  make([]byte, 1<<20),
		"hits":   bytes.Repeat([]byte(`{"echo":"`+token+`","and":"some more text that surrounds it in the body"}`), 8<<10),
	}
	for _, name := range slices.Sorted(maps.Keys(bodies)) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(bodies[name])))
			buf := make([]byte, 32<<10)
			for b.Loop() {
				resp := response("")
				resp.Body = io.NopCloser(bytes.NewReader(bodies[name]))
				if err := patterns.Redactor().Response(resp); err != nil {
					b.Fatal(err)
				}
				if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkHeader(b *testing.B) {
	r := New(api.Material{Token: []byte("sk_live_4eC39HqLyjWDarjtT1zdp7dcXk29vQmZ0aBcDeFgHiJkLm")}, nil)
	h := http.Header{
		"Content-Type": {"application/json; charset=utf-8"}, "Date": {"Mon, 23 Nov 2026 15:56:00 GMT"}, "Etag": {`W/"5e15153d-120f"`},
		"Strict-Transport-Security": {"max-age=63072000; includeSubDomains; preload"}, "X-Request-Id": {"req_8sGJ1kq0H0m0Zz"},
		"Content-Security-Policy": {"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
	}
	for b.Loop() {
		r.Header(h)
	}
}
