package redact

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode/utf16"

	"sallyport/control/api"
)

func wide(s string, order binary.AppendByteOrder) string {
	var b []byte
	for _, unit := range utf16.Encode([]rune(s)) {
		b = order.AppendUint16(b, unit)
	}
	return string(b)
}

// folded breaks s into lines of n bytes.
func folded(s string, n int, end string) string {
	var lines []string
	for ; len(s) > n; s = s[n:] {
		lines = append(lines, s[:n])
	}
	return strings.Join(append(lines, s), end)
}

func eachRune(s, format string) string {
	var b strings.Builder
	for _, r := range s {
		fmt.Fprintf(&b, format, r)
	}
	return b.String()
}

// What honest services make of a text they echo: none of it may be left but a
// few bits at the ends.
func TestEncodingsOfServices(t *testing.T) {
	token := "sk_live_4eC39HqLyjWDarjtT1zdp7dcXk29vQmZ0aBcDeFgHiJkLmNo"
	pair := base64.StdEncoding.EncodeToString([]byte("user:" + token))
	head := "GET / HTTP/1.1\r\nHost: a.test\r\nAuthorization: Basic " + pair + "\r\n\r\n"
	b64 := base64.StdEncoding.EncodeToString
	tests := map[string]string{
		"utf-16 le":            wide(token, binary.LittleEndian),
		"utf-16 be":            wide(token, binary.BigEndian),
		"base64 mime":          folded(b64([]byte("some text before the token: "+token+" and after it, more")), 76, "\r\n"),
		"base64 pem":           folded(b64([]byte("some text before the token "+token)), 64, "\n"),
		"base64 in json":       folded(b64([]byte(token)), 60, `\n`),
		"base64 twice":         b64([]byte(b64([]byte(token)))),
		"base64 twice within":  b64([]byte("ab" + b64([]byte("x"+token)))),
		"base64 url twice":     base64.URLEncoding.EncodeToString([]byte(base64.URLEncoding.EncodeToString([]byte("x" + token)))),
		"head in base64":       b64([]byte(head)),
		"head in hex":          hex.EncodeToString([]byte(head)),
		"percent twice":        percent(token, "%%25%02X"),
		"percent three times":  percent(token, "%%2525%02x"),
		"html padded":          percent(token, "&#%07d;"),
		"html hex padded":      percent(token, "&#x%06X;"),
		"html no semicolon":    strings.ReplaceAll(token, "_", "&#95"),
		"html hex no semi":     strings.ReplaceAll(token, "_", "&#x5f"),
		"html name":            strings.ReplaceAll(token, "_", "&lowbar;"),
		"html twice":           strings.ReplaceAll(token, "_", "&amp;#95;"),
		"json in json":         strings.ReplaceAll(token, "_", `\\u005f`),
		"json in json in json": strings.ReplaceAll(token, "_", `\\\\u005f`),
		"js braces":            eachRune(token, `\u{%x}`),
		"js padded braces":     eachRune(token, `\u{%06x}`),
		"js hex":               percent(token, `\x%02x`),
		"octal":                percent(token, `\%03o`),
		"escaped punctuation":  strings.ReplaceAll(token, "_", `\_`),
		"hex spaces":           fmt.Sprintf("% x", token),
		"hex colons":           strings.ReplaceAll(fmt.Sprintf("% X", token), " ", ":"),
		"hex lines":            folded(hex.EncodeToString([]byte(token)), 60, "\n"),
	}
	p := Compile(api.Material{Username: "user", Token: []byte(token)}, [][]byte{[]byte("Basic " + pair)})
	for name, s := range tests {
		for cut := range len(s) + 1 {
			parts := reads{"<" + s[:cut], s[cut:] + ">"}
			if cut == 0 {
				parts = strings.Split("<"+s+">", "")
			}
			resp := response("")
			resp.Body = io.NopCloser(&parts)
			r := p.Redactor()
			if err := r.Response(resp); err != nil {
				t.Fatal(err)
			}
			got := read(t, resp)
			if r.Count() == 0 || len(got) != len(s)+2 || strings.Count(got, "*") < len(token) {
				t.Errorf("%s cut at %d: left %q", name, cut, got)
				break
			}
		}
	}
}

// Lines may be of any length, and indented. However the reads end, no more is passed on
// than what is before the first break where that line is short and begins with something else.
func TestLinesOfAnyLength(t *testing.T) {
	token := "sk_live_4eC39HqLyjWDarjtT1zdp7dcXk29vQmZ0aBcDeFgHiJkLmNo"
	p := Compile(api.Material{Token: []byte(token)}, nil)
	for _, before := range []string{"", "x", "yz"} {
		for _, text := range []string{
			base64.StdEncoding.EncodeToString([]byte(before + token + "and more")), base64.RawURLEncoding.EncodeToString([]byte(before + token)),
			hex.EncodeToString([]byte(before + token)), strings.ReplaceAll(fmt.Sprintf("% x", before+token), " ", ":"),
		} {
			most := len(text) - len(token)*4/3 + 16
			if text[2] == ':' || len(text) == 2*len(before+token) {
				most = 3*len(before) + 16
			}
			for _, width := range []int{1, 9, 20, 33} {
				if text[2] == ':' && width%3 != 0 {
					continue
				}
				for _, end := range []string{"\n", "\r\n", "\n  ", "\n\t", `\n`, `\r\n`, `\n    `, "\n\n"} {
					for _, around := range []string{"\n", "key: ", "{"} {
						if end == "\n\n" && around != "\n" {
							continue // events end so
						}
						s := folded(text, width, end)
						all := []reads{strings.SplitAfter(s, end), {s}}
						if around == "{" {
							all = append(all, strings.Split(s, ""))
						}
						for _, parts := range all {
							resp := response("")
							parts = append(append(reads{around}, parts...), "}")
							resp.Body = io.NopCloser(&parts)
							if err := p.Redactor().Response(resp); err != nil {
								t.Fatal(err)
							}
							got := read(t, resp)
							rest := strings.ReplaceAll(strings.ReplaceAll(got[min(len(around), len(got)):], "*", ""), end, "")
							if len(got) != len(around+s+"}") || len(rest)-1 > most {
								t.Errorf("lines of %d ended by %q after %q: of %q is left %q", width, end, around, s, got)
							}
						}
					}
				}
			}
		}
	}
}

// An escape may be escaped in another way, and what is escaped be made base64 of.
func TestEscapesOfEscapes(t *testing.T) {
	token := `sk_live/4eC39Hq&Lyj"<W>Darj+tT1=zdp7dcXk29vQmZ0a`
	inJSON := func(s string) string {
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		return string(text[1 : len(text)-1])
	}
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	php := strings.NewReplacer(`"`, `\"`, "/", `\/`)
	for name, s := range map[string]string{
		"html in json": inJSON(html.EscapeString(token)), "json in html": html.EscapeString(inJSON(token)), "named html in html": html.EscapeString(php.Replace(token)),
		"html in a query": url.QueryEscape(html.EscapeString(token)), "json in a query": url.QueryEscape(inJSON(token)), "php's json in a query": url.QueryEscape(php.Replace(token)),
		"base64 of a query": b64("key=" + url.QueryEscape(token)), "base64 of a path": b64("/" + url.PathEscape(token)), "base64 of json": b64(`{"k":"` + inJSON(token) + `"}`),
		"base64 of php's json": b64(`{"key":"` + php.Replace(token) + `"}`), "base64 of html": b64("<b>" + html.EscapeString(token) + "</b>"),
		"base64url of json": base64.URLEncoding.EncodeToString([]byte(`["` + inJSON(token) + `"]`)),
	} {
		r := patternsOf(token).Redactor()
		resp := response("<" + s + ">")
		if err := r.Response(resp); err != nil {
			t.Fatal(err)
		}
		if got := read(t, resp); r.Count() == 0 || len(got) != len(s)+2 || strings.Count(got, "*") < len(token) {
			t.Errorf("%s: left %q", name, got)
		}
	}
}

func TestEncodedHeaderNames(t *testing.T) {
	token := "sk_Live_4eC39HqLyjWDarjtT1zdp7dc"
	r := New(api.Material{Token: []byte(token)}, nil)
	for _, name := range []string{percent(token, "%%%02X"), "x-" + strings.ReplaceAll(token, "_", "%5f") + "-y", percent(token, "%%25%02x"), percent(token, "%%2525%02x")} {
		h := http.Header{http.CanonicalHeaderKey(name): {"v"}, "100%-Sure-That-This-Is-No-Secret-At-All-%": {"w"}}
		if n := r.Header(h); n != 1 || len(h) != 2 || h["100%-Sure-That-This-Is-No-Secret-At-All-%"] == nil {
			t.Errorf("%s: count %d, %v", name, n, h)
		}
		for k := range h {
			if strings.Contains(k, "7") && strings.Contains(strings.ToLower(k), "%") && !strings.HasPrefix(k, "100") {
				t.Errorf("left %s", k)
			}
		}
	}
}

func TestRequestAsksForNoCharacterSet(t *testing.T) {
	r, err := http.NewRequestWithContext(t.Context(), "GET", "https://api.test/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = http.Header{"Accept-Charset": {"utf-16"}, "Accept": {"text/html;level=1; Charset=utf-7;q=0.5, */*;q=0.1", "text/plain"}}
	Request(r)
	want := "map[Accept:[text/html;level=1;q=0.5, */*;q=0.1 text/plain] Accept-Encoding:[identity]]"
	if got := fmt.Sprint(r.Header); got != want {
		t.Errorf("%s", got)
	}
}
