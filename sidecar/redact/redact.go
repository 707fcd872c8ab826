// Package redact hides material in what an upstream answers, whatever it echoes
// and wherever: head, body and trailers.
//
// Each occurrence is overwritten by as many asterisks as it has bytes, so
// Content-Length, JSON and frames of other protocols stay whole. These are found:
//
//   - text, with any of its characters percent-encoded, escaped as in JSON or
//     JavaScript, or as an HTML character reference, also over and over (see
//     match.Text for the list)
//   - base64 and base64url, wherever in it the text begins, in lines of any length, and
//     indented, base64 of these, and of the text as it is usually escaped
//   - hexadecimal, with or without separators between the bytes, and in lines too
//   - UTF-16, of either byte order
//   - what a token that is base64 or hexadecimal itself decodes to, and how it
//     is rendered in a request, such as Basic's pair, in all of these
//
// Bodies stream. What is held back to see how it goes on depends on the length
// of the secret, roughly, and, but for one in millions, on nothing else of it: an agent
// that places guesses in a stream and watches where its reads end learns nothing. It is the
// bytes at the end that no space and no end of a line or gRPC message separates (the
// break after a line that may be of base64 is no end of it);
// they are handed out when more comes, or the upstream is silent for a second. A compressed body
// is unpacked and passed on as it is then.
//
// A token under 16 bytes is not masked: what holds it is refused, with ErrReflected.
//
// An upstream that computes with the secret can't be redacted by anyone: one
// that says it backwards, a byte at a time, or in two parts with a pause between
// them, of which the first is handed out then.
//
// What follows a 101 answer is searched in the same way, message by message, by whoever
// passes it on (Redactor.Search).
package redact

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"

	"sallyport/control/api"
	"sallyport/sidecar/match"
)

// Redactor hides material in the response to one request.
type Redactor struct {
	patterns *Patterns
	parts    bool // a part of an answer may be passed on
	count    atomic.Int64
}

// ErrReflected reports an answer that holds a token which is too short to be masked.
var ErrReflected = errors.New("the upstream's answer holds the credential's secret, which is shorter than 16 bytes and so can't be masked in it")

// reflected reports whether what was found so far is refused.
func (r *Redactor) reflected() error {
	if r.patterns.short && r.count.Load() > 0 {
		return ErrReflected
	}
	return nil
}

// New is Compile(m, rendered).Redactor().
func New(m api.Material, rendered [][]byte) *Redactor { return Compile(m, rendered).Redactor() }

// Count is how many hits were masked so far. One text can be several: the
// token in base64 and the Basic value around it.
func (r *Redactor) Count() int { return int(r.count.Load()) }

// Wipe overwrites the patterns, which no other Redactor may be using then.
func (r *Redactor) Wipe() { r.patterns.Wipe() }

// Header masks material in names and values of h and says how often.
func (r *Redactor) Header(h http.Header) int {
	count := 0
	for name, values := range h {
		for i, v := range values {
			masked, n := r.mask(v)
			if n > 0 {
				values[i] = masked
				count += n
			}
		}
		if masked, n := r.patterns.maskName(name); n > 0 {
			delete(h, name)
			h[masked] = append(h[masked], values...)
			count += n
		}
	}
	r.count.Add(int64(count))
	return count
}

// mask masks text and counts, for its caller to add.
func (r *Redactor) mask(text string) (string, int) {
	if !match.Possible(r.patterns.set, text) {
		return text, 0
	}
	return r.maskFound(text)
}

// maskFound is apart so that text without hits costs no allocation.
func (r *Redactor) maskFound(text string) (string, int) {
	var out []byte
	count := 0
	r.patterns.set.Find(text, func(_, start, end int) {
		if out == nil {
			out = []byte(text)
		}
		mask(out[start:end])
		count++
	})
	if count == 0 {
		return text, 0
	}
	return string(out), count
}

// Response masks material in the head of resp at once and in its body and
// trailers as they are read. After an error, ErrEncoding, ErrPart, ErrShortToken or
// ErrReflected, nothing of resp may be passed on.
func (r *Redactor) Response(resp *http.Response) error {
	if r.patterns.err != nil {
		return r.patterns.err
	}
	status, n := r.mask(resp.Status)
	resp.Status = status
	r.count.Add(int64(n))
	body, size := resp.Body, resp.ContentLength
	if err := CheckExtensions(resp); err != nil {
		return err
	}
	if severalParts(resp) || !r.parts && IsPart(resp) {
		return ErrPart
	}
	if foreign(resp.Header) {
		return ErrEncoding
	}
	if hasBody(resp) {
		decoded, err := decode(resp)
		if err != nil {
			return err
		}
		if decoded, err = unpackMessages(resp, decoded); err != nil {
			return err
		}
		if resp.ContentLength > 0 && len(resp.Trailer) == 0 {
			decoded = &sized{decoded, resp.ContentLength}
		}
		resp.Body = r.body(resp, decoded, body)
	}
	dropDigests(resp.Header)
	dropDigests(resp.Trailer)
	r.Header(resp.Header)
	r.Header(resp.Trailer)
	if err := r.reflected(); err != nil || !r.patterns.short || size <= 0 || size > foreseen {
		return err
	}
	return foresee(resp)
}

// foreseen is the size in bytes of bodies that are read to their end before their
// head is passed on, where they may have to be refused. Of longer ones, or of
// unknown length, the head is gone when what is refused is found.
const foreseen = 64 << 10

func foresee(resp *http.Response) error {
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{bytes.NewReader(text), resp.Body}
	return nil
}

// ErrPart reports a part of a body where all of it was asked for: parts can be cut
// so that no single one holds the whole of a secret.
var ErrPart = errors.New("the upstream answered with a part of what was asked for")

// IsPart reports whether the body is a range of bytes (RFC 9110 section 14.6) or a
// difference (RFC 3229). Some services say by 206 and a Content-Range without a unit
// which rows they answer with; those are texts of their own.
func IsPart(resp *http.Response) bool {
	unit, _, _ := strings.Cut(strings.TrimSpace(resp.Header.Get("Content-Range")), " ")
	return severalParts(resp) || resp.StatusCode == http.StatusPartialContent && strings.EqualFold(unit, "bytes")
}

// severalParts reports whether the body has several ranges, or a difference: a secret
// can be in it, and in one piece nowhere.
func severalParts(resp *http.Response) bool {
	kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	return resp.StatusCode == http.StatusIMUsed || kind == "multipart/byteranges" || kind == "multipart/x-byteranges"
}

func hasBody(resp *http.Response) bool {
	head := resp.Request != nil && resp.Request.Method == http.MethodHead
	return !head && resp.StatusCode != http.StatusSwitchingProtocols && resp.Body != nil && resp.Body != http.NoBody
}

// body masks what is read from src, and the trailers when it ends.
func (r *Redactor) body(resp *http.Response, src io.Reader, original io.ReadCloser) io.ReadCloser {
	source := struct {
		io.Reader
		io.Closer
	}{src, original}
	masked := r.Search().Reader(source, openMessage(resp.Header))
	return &body{ReadCloser: masked, end: func() error {
		dropDigests(resp.Trailer)
		r.Header(resp.Trailer)
		return r.reflected()
	}}
}

// Search is what a stream is searched by: hits are masked and counted, or end it.
func (r *Redactor) Search() match.Search {
	return match.Search{Set: r.patterns.set, Secret: true, Found: func(_ int, text []byte) error {
		mask(text)
		r.count.Add(1)
		return r.reflected()
	}}
}

// sized ends with its last byte. HTTP/2 says that a body has ended only when it
// is asked once more, and until then what is held back would have to be.
type sized struct {
	io.Reader
	left int64
}

func (s *sized) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	s.left -= int64(n)
	if s.left <= 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

type body struct {
	io.ReadCloser
	end func() error
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		if refused := b.end(); refused != nil {
			return 0, refused
		}
	}
	return n, err
}

// digests are of the body as it was sent, not as it is passed on.
var digests = []string{"Content-Digest", "Content-Md5", "Digest", "Repr-Digest"}

func dropDigests(h http.Header) {
	for _, name := range digests {
		h.Del(name)
	}
}
