package proxy

import (
	"crypto/rand"
	"crypto/sha1" // RFC 6455 asks for it; nothing is kept secret by it
	"encoding/base64"
	"net/http"
	"strings"
)

// checkWebSocket judges the handshake by which a connection that carries a
// credential may change its protocol (RFC 6455 section 4.2.1). An upstream that
// did not take it for one would go on to read HTTP, unseen by us.
func checkWebSocket(r *http.Request) *Error {
	one := func(name string) string {
		if values := r.Header[name]; len(values) == 1 {
			return values[0]
		}
		return ""
	}
	key, err := base64.StdEncoding.DecodeString(one("Sec-Websocket-Key"))
	fault := ""
	switch {
	case r.Method != http.MethodGet:
		fault = "its method is GET"
	case !strings.EqualFold(one("Upgrade"), "websocket") || upgradeType(r.Header) == "":
		fault = "it says Upgrade: websocket and Connection: Upgrade"
	case !r.ProtoAtLeast(1, 1):
		fault = "its version is HTTP/1.1 or later"
	case r.ContentLength != 0:
		fault = "it has no body"
	case err != nil || len(key) != 16:
		fault = "its Sec-WebSocket-Key is 16 bytes in base64"
	case one("Sec-Websocket-Version") != "13":
		fault = "its Sec-WebSocket-Version is 13"
	default:
		return nil
	}
	return Errorf(http.StatusBadRequest, "bad_websocket", "this is not a WebSocket handshake: %s", fault)
}

// accepts reports whether a 101 answers the handshake of out, if that was a
// WebSocket's (RFC 6455 section 4.2.2).
func accepts(out *http.Request, response *http.Response) bool {
	asked, given := upgradeType(out.Header), upgradeType(response.Header)
	if asked == "" || !strings.EqualFold(asked, given) {
		return false
	}
	const salt = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
	digest := sha1.Sum([]byte(out.Header.Get("Sec-Websocket-Key") + salt))
	return !strings.EqualFold(asked, "websocket") || response.Header.Get("Sec-Websocket-Accept") == base64.StdEncoding.EncodeToString(digest[:])
}

// takeConnect makes an HTTP/1.1 upgrade of a request by which a client of HTTP/2
// asks for a WebSocket (RFC 8441 section 5), and reports whether it was one. The
// stream's data are no body of it, but what flows afterwards.
func takeConnect(r *http.Request) (bool, *Error) {
	protocol, found := r.Header[":protocol"]
	if !found {
		return false, nil
	}
	delete(r.Header, ":protocol")
	switch {
	case r.Method != http.MethodConnect:
		return false, Errorf(http.StatusBadRequest, "bad_request", "the pseudo-header :protocol goes with CONNECT alone")
	case protocol[0] != "websocket":
		return false, Errorf(http.StatusNotImplemented, "upgrade_refused", "a CONNECT to speak %q is not carried out; \"websocket\" is", protocol[0])
	}
	key := make([]byte, 16)
	rand.Read(key) // never fails
	r.Method, r.Body, r.ContentLength = http.MethodGet, http.NoBody, 0
	for name, value := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-Websocket-Key": base64.StdEncoding.EncodeToString(key)} {
		r.Header[name] = []string{value}
	}
	return true, nil
}
