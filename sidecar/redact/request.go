package redact

import (
	"net/http"
	"slices"
	"strings"
)

// extensions of WebSocket change its frames, compress them for one (RFC 7692).
// None is offered, and so none may be answered.
const extensions = "Sec-Websocket-Extensions"

// Request prepares an outgoing request so that its response can be redacted:
// it asks for a body that is not compressed, in no special character set, and
// for all of it. A part, or the
// answer to "is it still this?", would let a client learn an echoed secret bit
// by bit. The conditions of a request that changes something are kept, for
// without them it would overwrite what it was meant not to.
func Request(r *http.Request) {
	Plain(r)
	h := r.Header
	for _, name := range []string{"Range", "If-Range"} {
		h.Del(name)
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		for _, name := range []string{"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"} {
			h.Del(name)
		}
	}
}

// Plain is Request where no two requests bear the same secret: parts, and the
// answer to "is it still this?", tell nothing then.
func Plain(r *http.Request) {
	h := r.Header
	h.Set("Accept-Encoding", "identity")
	if h.Get("Connect-Accept-Encoding") != "" {
		h.Set("Connect-Accept-Encoding", "identity")
	}
	if h.Get("Grpc-Accept-Encoding") != "" || strings.HasPrefix(h.Get("Content-Type"), "application/grpc") {
		h.Set("Grpc-Accept-Encoding", "identity")
	}
	for _, name := range []string{"Accept-Charset", "Request-Range", "X-Ms-Range", "A-Im"} {
		h.Del(name)
	}
	DropExtensions(r)
	for i, accept := range h["Accept"] {
		h["Accept"][i] = withoutCharset(accept)
	}
}

// withoutCharset takes the charset parameters out of an Accept field.
func withoutCharset(accept string) string {
	if !strings.Contains(strings.ToLower(accept), "charset") {
		return accept
	}
	ranges := strings.Split(accept, ",")
	for i, r := range ranges {
		ranges[i] = strings.Join(slices.DeleteFunc(strings.Split(r, ";"), func(parameter string) bool {
			name, _, _ := strings.Cut(parameter, "=")
			return strings.EqualFold(strings.TrimSpace(name), "charset")
		}), ";")
	}
	return strings.Join(ranges, ",")
}

// DropExtensions has a WebSocket offer none, so that its messages can be searched.
func DropExtensions(r *http.Request) { r.Header.Del(extensions) }

// CheckExtensions is ErrEncoding if a WebSocket is opened with an extension.
func CheckExtensions(resp *http.Response) error {
	if resp.StatusCode == http.StatusSwitchingProtocols && resp.Header.Get(extensions) != "" {
		return ErrEncoding
	}
	return nil
}
