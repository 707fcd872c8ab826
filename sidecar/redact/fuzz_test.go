package redact

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"testing"

	"sallyport/control/api"
	"sallyport/sidecar/match"
)

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

// Whatever the material is, and in whichever encoding and compression it is echoed,
// what comes out never has it, and all that is beside it is as it was; of short
// material it ends.
func FuzzMaterial(f *testing.F) {
	for i, token := range []string{"sk_live_4eC39HqLyj", "c2VjcmV0LXRva2VuLTE", "deadbeefdeadbeef", "aaaaaaaa", "%41%42%43", `\u0041\u0042`, "********", "token\tx y", "\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8", "&amp;&lt;&gt;", "        ", "AAAAAAAAAAAAAAA="} {
		for coding := range codings {
			f.Add([]byte(token), uint8(i+coding), uint8(coding), []byte("before"), []byte("after"), uint16(7*i))
		}
	}
	f.Fuzz(func(t *testing.T, token []byte, which, coding uint8, before, after []byte, split uint16) {
		if len(token) < MinToken || len(token) > 100 || bytes.ContainsAny(token, "\r\n\x00") {
			return
		}
		all := spellings(token)
		s := all[int(which)%len(all)]
		before, after = blank(before), blank(after)
		text := slices.Concat(before, s, after)
		resp := response("")
		name := codings[int(coding)%len(codings)]
		packed := text
		if name != "" {
			packed = []byte(compress(t, name, string(text)))
			resp.Header.Set("Content-Encoding", name)
		}
		cut := int(split) % (len(packed) + 1)
		resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(packed[:cut]), bytes.NewReader(packed[cut:])))
		r := New(api.Material{Token: token}, nil)
		if err := r.Response(resp); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		if len(token) < MaskedToken || errors.Is(err, match.ErrTangled) {
			if err == nil || !errors.Is(err, ErrReflected) && !errors.Is(err, match.ErrTangled) || bytes.Contains(got[min(len(before), len(got)):], s) {
				t.Fatalf("%q as %q: passed on %q, %v", token, s, got, err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		end := len(got) - len(after)
		if len(got) != len(text) || !bytes.Equal(got[:len(before)], before) || !bytes.Equal(got[end:], after) {
			t.Fatalf("of %q, around %q, was made %q", text, s, got)
		}
		inside := got[len(before):end]
		if r.Count() == 0 || bytes.Equal(inside, s) && !bytes.Equal(s, bytes.Repeat([]byte("*"), len(s))) {
			t.Fatalf("%q as %q was not found: %q", token, s, got)
		}
		for _, other := range all {
			if bytes.Contains(inside, other) && len(bytes.Trim(other, "*")) > 0 {
				t.Fatalf("%q left in %q", other, got)
			}
		}
	})
}

var codings = []string{"", "gzip", "deflate", "br", "zstd"}

// spellings are material as upstreams echo it.
func spellings(token []byte) [][]byte {
	var wide []byte
	for _, c := range token {
		wide = append(wide, c, 0)
	}
	all := [][]byte{
		token, []byte(percent(string(token), "%%%02X")), []byte(percent(string(token), "%%%02x")), []byte(hex.EncodeToString(token)),
		[]byte(base64.StdEncoding.EncodeToString(token)), []byte(base64.RawURLEncoding.EncodeToString(append([]byte("x:"), token...))),
		[]byte(url.QueryEscape(string(token))), []byte(url.PathEscape(string(token))),
	}
	if bytes.IndexFunc(token, func(r rune) bool { return r < ' ' || r > '~' }) < 0 {
		all = append(all, wide, []byte(percent(string(token), `\u%04x`)), []byte(percent(string(token), "&#%d;")))
	}
	return all
}

// blank makes text of which nothing is a part of any spelling.
func blank(text []byte) []byte {
	const blanks = " ;,\n!(){"
	out := make([]byte, len(text))
	for i, c := range text {
		out[i] = blanks[int(c)%len(blanks)]
	}
	return out
}

// prose has the spaces and line breaks of a text, and of a file that is indented.
const prose = "The connection was refused because the account has been closed, and\nwhoever asks again is told the same.\n\n" +
	"spec:\n  template:\n    metadata:\n      labels:\n        app: billing\n    spec:\n      containers:\n      - name: worker\n        image: registry.example.com/worker:1.4\n"

func BenchmarkBody(b *testing.B) {
	token := "sk_live_4eC39HqLyjWDarjtT1zdp7dcXk29vQmZ0aBcDeFgHiJkLm"
	patterns := Compile(api.Material{Token: []byte(token)}, nil)
	random := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{}).Read(random) // never fails
	bodies := map[string][]byte{
		"json":   bytes.Repeat([]byte(`{"id":"ch_1NqXYZ2eZvKYlo2C","object":"charge","amount":1099,"url":"https:\/\/pay.example.com\/r?x=%7B1%7D","name":"M\u00fcller &amp; Co"},`), 8<<10),
		"base64": []byte(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("The quick brown fox jumps over 13 lazy dogs; "), 20<<10))),
		"text":   bytes.Repeat([]byte(prose), 1<<20/len(prose)),
		"zeros":  make([]byte, 1<<20),
		"random": random,
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

// BenchmarkScan is the search alone, of a text that holds nothing.
func BenchmarkScan(b *testing.B) {
	patterns := Compile(api.Material{Token: []byte("sk_live_4eC39HqLyjWDarjtT1zdp7dcXk29vQmZ0aBcDeFgHiJkLm")}, nil)
	random := make([]byte, 32<<10)
	rand.NewChaCha8([32]byte{}).Read(random) // never fails
	for name, text := range map[string][]byte{
		"json":   bytes.Repeat([]byte(`{"id":"ch_1NqXYZ2eZvKYlo2C","object":"charge","amount":1099,"url":"https:\/\/pay.example.com\/r?x=%7B1%7D","name":"M\u00fcller &amp; Co"},`), 240),
		"base64": []byte(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("The quick brown fox jumps over 13 lazy dogs; "), 500))),
		"zeros":  make([]byte, 32<<10), "random": random,
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				patterns.set.Stream(func(int, int, int) {}).Scan(text, 0)
			}
		})
	}
}
