// Package head reads and writes the heads of HTTP/1 messages for one who does it
// tens of thousands of times a second. A plain head, as nearly all are, is cut
// into lines here: one string, of which every name and value is a piece. What is
// in any way out of the ordinary net/http reads and writes, so that nothing is
// decided here about bytes that could be read in two ways. A head that is read
// here gives what net/http gives; tests and a fuzz target hold the two together.
package head

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// whole waits for a head's end and gives the head, which stays in the reader. It
// is false where the head does not fit, does not come, or begins otherwise: then
// its end may never come.
func whole(in *bufio.Reader, begin string) ([]byte, bool) {
	for n := 1; ; n = in.Buffered() + 1 {
		if _, err := in.Peek(n); err != nil {
			return nil, false
		}
		seen, _ := in.Peek(in.Buffered()) // that much is there
		if n := min(len(seen), len(begin)); string(seen[:n]) != begin[:n] {
			return nil, false
		}
		if end := bytes.Index(seen, []byte("\r\n\r\n")); end >= 0 {
			return seen[:end+len("\r\n\r\n")], true
		}
		if bytes.Contains(seen, []byte("\n\n")) || bytes.Contains(seen, []byte("\n\r\n")) {
			return nil, false // its end, to net/http
		}
	}
}

// plain is a head in pieces.
type plain struct {
	line   string // the first, without its end
	fields http.Header
	hosts  int
	length int64 // as Content-Length says; -1 without one
	close  bool  // no message follows
}

// cut gives the pieces of a head, or false if it has anything that takes more
// than looking for line ends and colons.
func cut(head []byte) (p plain, ok bool) {
	text := string(head[:len(head)-len("\r\n")])
	line, rest, _ := strings.Cut(text, "\r\n")
	n := strings.Count(rest, "\n")
	p = plain{line: line, fields: make(http.Header, n), length: -1}
	values := make([]string, n)
	for i := range values {
		field, more, found := strings.Cut(rest, "\r\n")
		name, value, colon := strings.Cut(field, ":")
		if !found || !colon || !httpguts.ValidHeaderFieldName(name) || !plainText(value) {
			return p, false
		}
		rest = more
		name = textproto.CanonicalMIMEHeaderKey(name)
		value = strings.Trim(value, " \t")
		if !p.note(name, value) {
			return p, false
		}
		values[i] = value
		if before := p.fields[name]; before != nil {
			p.fields[name] = append(before, value)
		} else {
			p.fields[name] = values[i : i+1 : i+1]
		}
	}
	return p, rest == "" && plainText(line)
}

// note looks at what frames a message, and is false where net/http must.
func (p *plain) note(name, value string) bool {
	switch name {
	case "Host":
		p.hosts++
	case "Content-Length":
		n, err := strconv.ParseUint(value, 10, 63)
		if err != nil || p.length >= 0 {
			return false
		}
		p.length = int64(n)
	case "Connection":
		p.close = strings.EqualFold(value, "close")
		return (p.close || strings.EqualFold(value, "keep-alive")) && p.fields[name] == nil
	case "Transfer-Encoding", "Trailer", "Pragma":
		return false
	}
	return true
}

// plainText reports whether s has no control character, a tab excepted.
func plainText(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// sized is a body of known length.
type sized struct {
	in   io.Reader
	left int64
}

func (s *sized) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	n, err := s.in.Read(p[:min(int64(len(p)), s.left)])
	s.left -= int64(n)
	switch {
	case s.left == 0:
		return n, io.EOF
	case err == io.EOF:
		return n, io.ErrUnexpectedEOF
	}
	return n, err
}

// Close leaves the rest unread.
func (*sized) Close() error { return nil }

func bodyOf(in io.Reader, length int64) io.ReadCloser {
	if length <= 0 {
		return http.NoBody
	}
	return &sized{in, length}
}
