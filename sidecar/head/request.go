package head

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// ReadRequest is http.ReadRequest.
func ReadRequest(in *bufio.Reader) (*http.Request, error) {
	if head, ok := whole(in, ""); ok {
		if r := request(head); r != nil {
			if _, err := in.Discard(len(head)); err != nil {
				return nil, err
			}
			r.Body = bodyOf(in, r.ContentLength)
			return r, nil
		}
	}
	return http.ReadRequest(in)
}

// request is nil for a head that is not plain.
func request(head []byte) *http.Request {
	p, ok := cut(head)
	if !ok || p.hosts != 1 {
		return nil
	}
	method, rest, _ := strings.Cut(p.line, " ")
	target, version, _ := strings.Cut(rest, " ")
	if version != "HTTP/1.1" || !strings.HasPrefix(target, "/") || !httpguts.ValidHeaderFieldName(method) || method == http.MethodConnect {
		return nil
	}
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return nil
	}
	host := p.fields["Host"][0]
	delete(p.fields, "Host")
	return &http.Request{
		Method: method, URL: u, RequestURI: target, Proto: version, ProtoMajor: 1, ProtoMinor: 1,
		Header: p.fields, Host: host, ContentLength: max(p.length, 0), Close: p.close,
	}
}

// WriteRequest writes a request to an origin, with a body if it has one whose
// length is known. It writes what (*http.Request).Write does. Reading the body must
// leave w alone.
func WriteRequest(w *bufio.Writer, r *http.Request) error {
	target := r.URL.RequestURI()
	agent, named := r.Header["User-Agent"]
	switch {
	case !named, r.Body != nil && r.ContentLength <= 0, r.Close, !httpguts.ValidHostHeader(r.Host) || strings.Contains(r.Host, "%"),
		!plainText(target), !httpguts.ValidHeaderFieldName(r.Method), r.Method == http.MethodConnect, r.TransferEncoding != nil, len(r.Trailer) > 0:
		return r.Write(w)
	}
	b := w.AvailableBuffer()
	b = append(append(append(append(b, r.Method...), ' '), target...), " HTTP/1.1\r\nHost: "...)
	b = append(append(b, r.Host...), "\r\n"...)
	if len(agent) > 0 && agent[0] != "" {
		b = appendField(b, "User-Agent", agent[0])
	}
	if r.Body != nil {
		b = strconv.AppendInt(append(b, "Content-Length: "...), r.ContentLength, 10)
		b = append(b, "\r\n"...)
	} else if length, told := emptyLength(r); told {
		b = append(b, length...)
	}
	b = append(appendFields(b, r.Header, requestFraming), "\r\n"...)
	if _, err := w.Write(b); err != nil || r.Body == nil {
		return err
	}
	return copyBody(w, r)
}

// emptyLength says that there is no body, for methods of which one is expected
// (RFC 9110 section 8.6).
func emptyLength(r *http.Request) (string, bool) {
	switch r.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
		return "Content-Length: 0\r\n", true
	}
	return "", false
}

func copyBody(w io.Writer, r *http.Request) error {
	defer r.Body.Close()
	n, err := io.Copy(w, io.LimitReader(r.Body, r.ContentLength))
	if err != nil {
		return err
	}
	if n != r.ContentLength {
		return fmt.Errorf("the request's body has %d bytes of %d", n, r.ContentLength)
	}
	return nil
}

// requestFraming are the fields that WriteRequest writes by itself.
func requestFraming(name string) bool {
	switch name {
	case "Host", "User-Agent", "Content-Length", "Transfer-Encoding", "Trailer":
		return true
	}
	return false
}

// AppendFields appends the lines of a header, sorted by name, as http.Header's
// Write writes them: no value can hold the end of a line.
func AppendFields(b []byte, h http.Header) []byte {
	return appendFields(b, h, func(string) bool { return false })
}

// usualFields is how many fields are sorted without memory of their own.
const usualFields = 24

func appendFields(b []byte, h http.Header, leave func(string) bool) []byte {
	var room [usualFields]string
	names := room[:0]
	for name := range h {
		if !leave(name) && httpguts.ValidHeaderFieldName(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		for _, value := range h[name] {
			b = appendField(b, name, value)
		}
	}
	return b
}

func appendField(b []byte, name, value string) []byte {
	b = append(append(b, name...), ": "...)
	begin := len(b)
	b = append(b, strings.Trim(value, " \t\r\n")...)
	for i := begin; i < len(b); i++ {
		if b[i] == '\r' || b[i] == '\n' {
			b[i] = ' '
		}
	}
	return append(b, "\r\n"...)
}
