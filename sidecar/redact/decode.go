package redact

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
)

// ErrEncoding reports a body that can't be looked into. It does not name the
// encoding: that may be anything, an echoed secret too.
var ErrEncoding = errors.New("the upstream's answer is in an encoding that can't be redacted")

// ErrRatio reports a compressed body that unpacks to so much that it can only
// be an attack. Read fails with it.
var ErrRatio = errors.New("the upstream's answer unpacks to more than 100 times its size")

const (
	maxRatio    = 100
	ratioFree   = 8 << 20 // bytes that may come out before the ratio counts
	maxCodings  = 3
	zstdWindow  = 8 << 20 // RFC 9659
	zstdWorkers = 1       // no goroutines of its own
)

// decode gives the body of resp without its content codings, and takes them
// from the head.
func decode(resp *http.Response) (io.Reader, error) {
	codings := codingsOf(resp.Header.Values("Content-Encoding"))
	if len(codings) == 0 {
		return resp.Body, nil
	}
	if len(codings) > maxCodings {
		return nil, ErrEncoding
	}
	in := &counter{Reader: resp.Body}
	var out io.Reader = in
	for _, coding := range slices.Backward(codings) {
		open, known := decoders[coding]
		if !known {
			return nil, ErrEncoding
		}
		out = &lazy{src: out, open: open}
	}
	resp.Header.Del("Content-Encoding")
	resp.Header.Del("Content-Length")
	resp.ContentLength = -1
	resp.Uncompressed = true
	if tag := resp.Header.Get("Etag"); tag != "" && !strings.HasPrefix(tag, "W/") {
		resp.Header.Set("Etag", "W/"+tag) // no longer byte for byte (RFC 9110 section 8.8.1)
	}
	return &limited{in: in, out: counter{Reader: out}}, nil
}

func codingsOf(values []string) []string {
	var codings []string
	for _, v := range values {
		for c := range strings.SplitSeq(v, ",") {
			c = strings.ToLower(strings.TrimSpace(c))
			if c != "" && c != "identity" {
				codings = append(codings, c)
			}
		}
	}
	return codings
}

var decoders = map[string]func(*bufio.Reader) (io.Reader, error){
	"gzip":    openGzip,
	"x-gzip":  openGzip,
	"deflate": openDeflate,
	"br":      func(r *bufio.Reader) (io.Reader, error) { return brotli.NewReader(r), nil },
	"zstd": func(r *bufio.Reader) (io.Reader, error) {
		return zstd.NewReader(r, zstd.WithDecoderConcurrency(zstdWorkers),
			zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(zstdWindow))
	},
}

func openGzip(r *bufio.Reader) (io.Reader, error) { return gzip.NewReader(r) }

// openDeflate reads the zlib format that RFC 9110 section 8.4.1.2 means, or the
// bare one that some servers send.
func openDeflate(r *bufio.Reader) (io.Reader, error) {
	const method, deflate = 0x0f, 8
	head, err := r.Peek(2)
	if err == nil && head[0]&method == deflate && (uint(head[0])<<8|uint(head[1]))%31 == 0 {
		return zlib.NewReader(r)
	}
	return flate.NewReader(r), nil
}

// lazy opens a decoder at the first Read: its first bytes may be long in coming.
// Nothing at all is nothing decoded.
type lazy struct {
	src  io.Reader
	open func(*bufio.Reader) (io.Reader, error)
	r    io.Reader
}

func (l *lazy) Read(p []byte) (int, error) {
	if l.r == nil {
		src := bufio.NewReader(l.src)
		if _, err := src.Peek(1); err != nil {
			return 0, err
		}
		r, err := l.open(src)
		if err != nil {
			return 0, fmt.Errorf("unpack the upstream's answer: %w", err)
		}
		l.r = r
	}
	return l.r.Read(p)
}

type counter struct {
	io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	return n, err
}

// trailing is how much may follow a compressed stream. It is read so that the
// end of the body, and with it the trailers, is reached.
const trailing = 4 << 10

// limited ends a stream that grows too much.
type limited struct {
	in  *counter
	out counter
}

func (l *limited) Read(p []byte) (int, error) {
	n, err := l.out.Read(p)
	if l.out.n > ratioFree && l.out.n/maxRatio > l.in.n {
		return 0, ErrRatio
	}
	if err == io.EOF {
		_, _ = io.CopyN(io.Discard, l.in, trailing) // what it fails with is no part of the body
	}
	return n, err
}
