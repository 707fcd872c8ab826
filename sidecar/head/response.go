package head

import (
	"bufio"
	"bytes"
	"net/http"
	"strconv"
	"strings"
)

// ReadResponse is http.ReadResponse. A response that says in two ways where it
// ends has Close set: what follows it may be anything.
func ReadResponse(in *bufio.Reader, to *http.Request) (*http.Response, error) {
	if to.Method != http.MethodHead && to.Method != http.MethodConnect {
		if head, ok := whole(in, "HTTP/"); ok {
			if r := response(head); r != nil {
				if _, err := in.Discard(len(head)); err != nil {
					return nil, err
				}
				r.Request, r.Body = to, bodyOf(in, r.ContentLength)
				return r, nil
			}
		}
	}
	doubtful := twoFramings(in)
	r, err := http.ReadResponse(in, to)
	if err == nil {
		r.Close = r.Close || doubtful
	}
	return r, err
}

// response is nil for a head that is not plain, or whose body is not of a length
// that it tells.
func response(head []byte) *http.Response {
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 ")) {
		return nil
	}
	p, ok := cut(head)
	if !ok || p.length < 0 {
		return nil
	}
	version, status, _ := strings.Cut(p.line, " ")
	status = strings.TrimLeft(status, " ")
	digits, _, _ := strings.Cut(status, " ")
	code, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || len(digits) != 3 || code < 200 || code == http.StatusNoContent || code == http.StatusNotModified {
		return nil
	}
	if p.close {
		delete(p.fields, "Connection")
	}
	return &http.Response{
		Status: status, StatusCode: int(code), Proto: version, ProtoMajor: 1, ProtoMinor: 1,
		Header: p.fields, ContentLength: p.length, Close: p.close,
	}
}

// twoFramings reports whether the head that comes next says in two ways where
// its message ends. net/http goes by one and forgets the other; RFC 9112 section
// 6.3 sees an attack there. A head too long to be seen whole counts as one.
func twoFramings(in *bufio.Reader) bool {
	for n := 1; ; n = in.Buffered() + 1 {
		if _, err := in.Peek(n); err != nil {
			return err == bufio.ErrBufferFull
		}
		seen, _ := in.Peek(in.Buffered()) // that much is there
		if end := bytes.Index(seen, []byte("\n\r\n")); end >= 0 {
			return hasField(seen[:end], "content-length:") && hasField(seen[:end], "transfer-encoding:")
		}
		if !bytes.HasPrefix(seen, []byte("HTTP/")[:min(len(seen), 5)]) || bytes.Contains(seen, []byte("\n\n")) {
			return true // no HTTP, or lines that end in LF alone
		}
	}
}

// hasField looks for a field by its name, in small letters and with the colon.
func hasField(head []byte, name string) bool {
	for {
		_, rest, found := bytes.Cut(head, []byte("\n"))
		if !found {
			return false
		}
		if head = rest; len(head) >= len(name) && bytes.EqualFold(head[:len(name)], []byte(name)) {
			return true
		}
	}
}
