package strict

import (
	"bytes"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// head is what a request's head has said so far, of the things that decide
// where the request ends and whom it is for.
type head struct {
	old       bool // HTTP/1.0
	connect   bool
	authority string // of a target that names one
	hosts     int
	badHost   bool // the last Host can't be one
	elsewhere bool // the last Host is not the authority
	lengths   int
	length    int64
	codings   int
	chunked   bool
	switches  bool
}

// request judges a request line (RFC 9112 section 3).
func (h *head) request(line []byte, proxy bool) *Error {
	method, rest, found := bytes.Cut(line, []byte(" "))
	target, version, more := bytes.Cut(rest, []byte(" "))
	switch {
	case !found || !more || !isToken(method):
		return malformed("the request line is not METHOD TARGET VERSION with single spaces")
	case lower(method):
		return malformed("the method has small letters: to some servers it is another than to others; write it in capitals")
	case string(version) == "HTTP/1.0":
		h.old = true
	case string(version) != "HTTP/1.1":
		return &Error{Status: http.StatusHTTPVersionNotSupported, Code: "unsupported_version", Message: "the version is neither HTTP/1.1 nor HTTP/1.0"}
	}
	for _, c := range target {
		if c <= ' ' || c >= 0x7f || c == '#' || c == '\\' {
			return malformed("the request target has a character that must be percent-encoded")
		}
	}
	switch {
	case string(method) == http.MethodConnect:
		return h.connectTarget(target, proxy)
	case string(target) == "*":
		if string(method) != http.MethodOptions {
			return malformed("the request target * is for OPTIONS alone")
		}
		return nil
	case len(target) > 0 && target[0] == '/':
		return checkPath(target)
	}
	return h.absoluteTarget(target, proxy)
}

func (h *head) connectTarget(target []byte, proxy bool) *Error {
	if !proxy {
		return &Error{Status: http.StatusMethodNotAllowed, Code: "connect_refused", Message: "CONNECT is not for a connection that is intercepted; connect to the host itself"}
	}
	u, err := url.ParseRequestURI("http://" + string(target))
	if err != nil || !isHost(target) || u.Port() == "" {
		return malformed("CONNECT needs HOST:PORT")
	}
	h.connect, h.switches, h.authority = true, true, string(target)
	return nil
}

func (h *head) absoluteTarget(target []byte, proxy bool) *Error {
	if !proxy {
		return malformed("the request target does not begin with /; a full URL is for proxies")
	}
	u, err := url.ParseRequestURI(string(target))
	if err != nil || u.Scheme != "http" || u.User != nil || !isHost([]byte(u.Host)) {
		return malformed("the request target is neither a path nor an http:// URL with a plain host")
	}
	h.authority = u.Host
	return nil
}

// checkPath finds what net/url would refuse: bad percent-encoding before the query.
func checkPath(path []byte) *Error {
	path, _, _ = bytes.Cut(path, []byte("?"))
	for i := 0; i < len(path); i++ {
		if path[i] != '%' {
			continue
		}
		if i+2 >= len(path) || !isHex(path[i+1]) || !isHex(path[i+2]) {
			return malformed("the request target's path has a %% that is not followed by two hexadecimal digits")
		}
	}
	return nil
}

// splitField judges a field line by itself (RFC 9110 section 5.5, RFC 9112 section 5).
func splitField(line []byte) (name, value []byte, refusal *Error) {
	if len(line) > 0 && (line[0] == ' ' || line[0] == '\t') {
		return nil, nil, malformed("a header field is folded over lines")
	}
	name, value, found := bytes.Cut(line, []byte(":"))
	if !found || !isToken(name) {
		return nil, nil, malformed("a header line is not NAME: VALUE with a plain name and no space before the colon")
	}
	for _, c := range value {
		if c < ' ' && c != '\t' || c == 0x7f {
			return nil, nil, malformed("a header field has a control character")
		}
	}
	return name, bytes.Trim(value, " \t"), nil
}

// longestName is that of the longest field name that matters here.
const longestName = len("transfer-encoding")

// field judges a field line.
func (h *head) field(line []byte) *Error {
	name, value, refusal := splitField(line)
	if refusal != nil || len(name) > longestName {
		return refusal
	}
	var buf [longestName]byte
	exact := true
	folded := buf[:0]
	for _, c := range name {
		switch {
		case c >= 'A' && c <= 'Z':
			c += 'a' - 'A'
		case c != '-' && (c < 'a' || c > 'z') && (c < '0' || c > '9'):
			c, exact = '-', false // CGI makes no difference
		}
		folded = append(folded, c)
	}
	if !exact {
		if s := string(folded); s == "content-length" || s == "transfer-encoding" {
			return malformed("the header field %q could be taken for %s", name, s)
		}
		return nil
	}
	switch string(folded) {
	case "host":
		h.hosts++
		h.badHost = !isHost(value)
		h.elsewhere = h.authority != "" && !strings.EqualFold(h.authority, string(value)) && !h.named(value)
	case "content-length":
		return h.contentLength(value)
	case "transfer-encoding":
		h.codings++
		h.chunked = equalFold(value, "chunked")
	case "upgrade":
		h.switches = true
	case "trailer":
		return checkTrailer(value)
	case "expect":
		if !equalFold(value, "100-continue") {
			return &Error{Status: http.StatusExpectationFailed, Code: "unsupported_expectation", Message: "the only expectation is 100-continue"}
		}
	}
	return nil
}

// named reports whether a Host is a CONNECT's target without its port, as undici
// sends it. The target is what counts.
func (h *head) named(host []byte) bool {
	colon := strings.LastIndexByte(h.authority, ':')
	return h.connect && colon >= 0 && strings.EqualFold(h.authority[:colon], string(host))
}

// maxLengthDigits is what can't overflow.
const maxLengthDigits = 18

func (h *head) contentLength(value []byte) *Error {
	if h.lengths++; h.lengths > 1 {
		return malformed("the request has Content-Length twice")
	}
	if len(value) == 0 || len(value) > maxLengthDigits || len(bytes.Trim(value, "0123456789")) > 0 {
		return malformed("the Content-Length is not a number of at most %d digits", maxLengthDigits)
	}
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		return malformed("the Content-Length is not a number")
	}
	h.length = n
	return nil
}

func checkTrailer(value []byte) *Error {
	for name := range strings.SplitSeq(string(value), ",") {
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "content-length", "transfer-encoding", "trailer":
			return malformed("the Trailer field names one that can't be a trailer")
		}
	}
	return nil
}

// check judges the head as a whole.
func (h *head) check() *Error {
	switch {
	case h.hosts != 1 && (h.hosts > 0 || !h.connect || !h.old): // OpenSSL and Python ask in HTTP/1.0, by the target alone
		return malformed("the request needs one Host header; it has %d", h.hosts)
	case h.badHost:
		return malformed("the Host header is not HOST or HOST:PORT")
	case h.elsewhere:
		return malformed("the Host header and the request target name different hosts")
	case h.codings > 1 || h.codings == 1 && !h.chunked:
		return malformed("the only Transfer-Encoding is chunked, once")
	case h.chunked && h.old:
		return malformed("HTTP/1.0 has no Transfer-Encoding")
	case h.chunked && h.lengths > 0:
		return malformed("the request has both Content-Length and Transfer-Encoding")
	case h.connect && (h.chunked || h.lengths > 0):
		return malformed("CONNECT has no body")
	}
	return nil
}

// isHost reports whether b has only what a host name or address with a port
// has. Whether it is one is for those who know what it is compared with.
func isHost(b []byte) bool {
	for _, c := range b {
		if !isAlphanumeric(c) && strings.IndexByte("-._:[]", c) < 0 {
			return false
		}
	}
	return len(b) > 0
}

func isToken(b []byte) bool {
	for _, c := range b {
		if !isAlphanumeric(c) && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return len(b) > 0
}

// equalFold reports whether b is lower but for the case of ASCII letters. To
// package strings the Kelvin sign is a k.
func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// lower reports whether b has a small letter.
func lower(b []byte) bool {
	return bytes.ContainsFunc(b, func(c rune) bool { return c >= 'a' && c <= 'z' })
}

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}
