package main

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/url"
	"strings"
	"unicode/utf16"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
)

// encoding is a way to write a credential in an answer.
type encoding struct {
	name   string
	encode func(c credential) string
	binary bool // what it gives has no place in a header
}

// of is an encoding of the secret alone.
func of(name string, encode func(string) string) encoding {
	return encoding{name: name, encode: func(c credential) string { return encode(c.secret) }}
}

func encodings() []encoding {
	std, urlSafe := base64.StdEncoding.EncodeToString, base64.URLEncoding.EncodeToString
	list := []encoding{
		of("raw", func(s string) string { return s }),
		{name: "rendered", encode: credential.rendered},
		{name: "pair", encode: func(c credential) string { return c.user + ":" + c.secret }},
		{name: "rendered-base64", encode: func(c credential) string { return std([]byte(c.rendered())) }},
		{name: "rendered-percent", encode: func(c credential) string { return each(c.rendered(), "%%%02X") }},
		of("hex-lower", func(s string) string { return hex.EncodeToString([]byte(s)) }),
		of("hex-upper", func(s string) string { return strings.ToUpper(hex.EncodeToString([]byte(s))) }),
		of("hex-colons", func(s string) string { return strings.ReplaceAll(fmt.Sprintf("% x", s), " ", ":") }),
		of("hex-spaces", func(s string) string { return fmt.Sprintf("% X", s) }),
		of("percent-lower", func(s string) string { return each(s, "%%%02x") }),
		of("percent-upper", func(s string) string { return each(s, "%%%02X") }),
		of("percent-needed", func(s string) string { return punctuation(s, "%%%02X") }),
		of("percent-twice", func(s string) string { return each(s, "%%25%02X") }),
		of("json-u-lower", func(s string) string { return each(s, `\u%04x`) }),
		of("json-u-upper", func(s string) string { return each(s, `\u%04X`) }),
		of("json-needed", func(s string) string { return punctuation(s, `\u%04x`) }),
		of("json-slash", func(s string) string { return strings.NewReplacer("/", `\/`, `"`, `\"`).Replace(s) }),
		of("json-twice", func(s string) string { return punctuation(s, `\\u%04x`) }),
		of("js-x", func(s string) string { return each(s, `\x%02x`) }),
		of("octal", func(s string) string { return each(s, `\%03o`) }),
		of("html-decimal", func(s string) string { return each(s, "&#%d;") }),
		of("html-hex-lower", func(s string) string { return each(s, "&#x%x;") }),
		of("html-hex-upper", func(s string) string { return each(s, "&#X%X;") }),
		of("html-padded", func(s string) string { return each(s, "&#%07d;") }),
		of("html-named", func(s string) string {
			return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "/", "&sol;", "_", "&lowbar;").Replace(s)
		}),
		of("mixture", mixture),
		of("html-in-json", func(s string) string { return inJSON(html.EscapeString(s)) }),
		of("json-in-html", func(s string) string { return html.EscapeString(inJSON(s)) }),
		of("html-in-a-query", func(s string) string { return url.QueryEscape(html.EscapeString(s)) }),
		of("json-in-a-query", func(s string) string { return url.QueryEscape(inJSON(s)) }),
		of("query-in-json", func(s string) string { return inJSON(url.QueryEscape(s)) }),
		of("base64-twice", func(s string) string { return std([]byte(std([]byte(s)))) }),
		of("base64url-twice", func(s string) string { return urlSafe([]byte(urlSafe([]byte("x" + s)))) }),
		of("base64-of-a-query", func(s string) string { return std([]byte("key=" + url.QueryEscape(s))) }),
		of("base64-of-json", func(s string) string { return std([]byte(`{"key":"` + inJSON(s) + `"}`)) }),
		of("base64-of-html", func(s string) string { return std([]byte("<b>" + html.EscapeString(s) + "</b>")) }),
		of("percent-of-base64", func(s string) string { return punctuation(std([]byte(s+"?>?")), "%%%02X") }),
		of("base64-padded-by-dots", func(s string) string {
			return urlSafe([]byte("{}")) + "." + urlSafe([]byte(s)) + "." + urlSafe([]byte("end"))
		}),
		of("base64-of-a-head", func(s string) string {
			return std([]byte("GET / HTTP/1.1\r\nHost: a.test\r\nAuthorization: Bearer " + s + "\r\n\r\n"))
		}),
		{name: "utf16-le", binary: true, encode: func(c credential) string { return wide(c.secret, binary.LittleEndian) }},
		{name: "utf16-be", binary: true, encode: func(c credential) string { return wide(c.secret, binary.BigEndian) }},
		{name: "base64-mime", binary: true, encode: func(c credential) string {
			return lines(std([]byte("Content-Type: text/plain\r\n\r\nyour key is "+c.secret+", keep it")), 76, "\r\n")
		}},
		{name: "base64-pem", binary: true, encode: func(c credential) string { return lines(std([]byte("your key is "+c.secret)), 64, "\n") }},
	}
	for _, l := range []struct {
		width     int
		name, end string
	}{{3, "", "\n"}, {10, "", "\n"}, {20, "", "\n"}, {31, "", "\n"}, {20, "-crlf", "\r\n"}, {20, "-json", `\n`}, {20, "-indented", "\n    "}} {
		list = append(list,
			encoding{name: fmt.Sprintf("base64-lines-%d%s", l.width, l.name), binary: true, encode: func(c credential) string {
				return lines(std([]byte("your key is "+c.secret)), l.width, l.end)
			}},
			encoding{name: fmt.Sprintf("hex-lines-%d%s", l.width, l.name), binary: true, encode: func(c credential) string {
				return lines(hex.EncodeToString([]byte(c.secret)), l.width, l.end)
			}})
	}
	for shift, before := range []string{"", "x", "xy"} {
		list = append(list,
			of(fmt.Sprintf("base64-std-%d", shift), func(s string) string { return std([]byte(before + s)) }),
			of(fmt.Sprintf("base64-url-%d", shift), func(s string) string { return urlSafe([]byte(before + s)) }),
			of(fmt.Sprintf("base64-within-%d", shift), func(s string) string { return std([]byte(before + s + " and more after it")) }))
	}
	return list
}

// inJSON is s as Go's encoder writes it between quotation marks.
func inJSON(s string) string {
	text, err := json.Marshal(s)
	if err != nil {
		panic(fmt.Sprintf("encode a string: %v", err))
	}
	return strings.Trim(string(text), `"`)
}

func each(s, format string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, format, s[i])
	}
	return b.String()
}

// punctuation writes what is neither a letter nor a digit by the format.
func punctuation(s, format string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, format, c)
		}
	}
	return b.String()
}

// mixture writes each character in another way than the one before it.
func mixture(s string) string {
	formats := []string{"%c", "%%%02X", `\u%04x`, "&#%d;", "%%%02x", "&#x%X;", `\x%02x`}
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, formats[i%len(formats)], s[i])
	}
	return b.String()
}

func wide(s string, order binary.AppendByteOrder) string {
	var b []byte
	for _, unit := range utf16.Encode([]rune(s)) {
		b = order.AppendUint16(b, unit)
	}
	return string(b)
}

func lines(s string, n int, end string) string {
	var list []string
	for ; len(s) > n; s = s[n:] {
		list = append(list, s[:n])
	}
	return strings.Join(append(list, s), end)
}

// coding is a content coding.
type coding struct {
	name  string // in Content-Encoding
	write func(io.Writer) flusher
	open  func(io.Reader) (io.Reader, error)
}

type flusher interface {
	io.WriteCloser
	Flush() error
}

var codings = []coding{
	{"gzip", func(w io.Writer) flusher { return gzip.NewWriter(w) }, func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }},
	{"deflate", func(w io.Writer) flusher { return zlib.NewWriter(w) }, func(r io.Reader) (io.Reader, error) { return zlib.NewReader(r) }},
	{"br", func(w io.Writer) flusher { return brotli.NewWriter(w) }, func(r io.Reader) (io.Reader, error) { return brotli.NewReader(r), nil }},
	{"zstd", func(w io.Writer) flusher {
		encoder, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
		if err != nil {
			panic(fmt.Sprintf("make an encoder with sound options: %v", err))
		}
		return encoder
	}, func(r io.Reader) (io.Reader, error) {
		decoder, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		return decoder.IOReadCloser(), nil
	}},
	// Some servers say deflate and leave the wrapping of zlib out.
	{"raw-deflate", func(w io.Writer) flusher {
		writer, err := flate.NewWriter(w, flate.DefaultCompression)
		if err != nil {
			panic(fmt.Sprintf("make a writer of a known level: %v", err))
		}
		return writer
	}, func(r io.Reader) (io.Reader, error) { return flate.NewReader(r), nil }},
}

func codingNamed(name string) coding {
	for _, c := range codings {
		if c.name == name {
			return c
		}
	}
	panic("no coding " + name)
}

// compress applies codings in their order, flushing after each part where only one is.
func compress(parts []string, names []string) []string {
	if len(names) == 0 {
		return parts
	}
	var out bytes.Buffer
	writer := codingNamed(names[0]).write(&out)
	var packed []string
	for _, part := range parts {
		io.WriteString(writer, part) // to memory
		writer.Flush()
		packed = append(packed, out.String())
		out.Reset()
	}
	writer.Close()
	return compress(append(packed, out.String()), names[1:])
}
