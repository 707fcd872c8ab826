package redact

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"sallyport/control/api"
)

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
	for _, name := range []string{token, "x-" + token, hex.EncodeToString([]byte(token)), strings.ReplaceAll(fmt.Sprintf("% x", []byte(token)), " ", "-"),
		base64.RawURLEncoding.EncodeToString([]byte("u:" + token))} {
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
