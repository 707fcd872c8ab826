package redact

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
)

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
		if err := newRedactor().Response(resp); !errors.Is(err, ErrEncoding) {
			t.Errorf("%s: %s gave %v", tt.name, tt.value, err)
		}
	}
}

// The name of an encoding is the upstream's to choose, and may echo the secret.
func TestRefusalNamesNoEncoding(t *testing.T) {
	for _, name := range []string{"Content-Encoding", "Grpc-Encoding"} {
		resp := response("x")
		resp.Header.Set(name, canary)
		err := newRedactor().Response(resp)
		if err == nil || strings.Contains(strings.ToLower(fmt.Sprintf("%v %#v", err, err)), "4ec39") {
			t.Errorf("%s: %v", name, err)
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
