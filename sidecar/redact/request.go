package redact

import "net/http"

// Request prepares an outgoing request so that its response can be redacted:
// it asks for a body that is not compressed and for all of it. A part, or the
// answer to "is it still this?", would let a client learn an echoed secret bit
// by bit. The conditions of a request that changes something are kept, for
// without them it would overwrite what it was meant not to.
func Request(r *http.Request) {
	h := r.Header
	h.Set("Accept-Encoding", "identity")
	for _, name := range []string{"Grpc-Accept-Encoding", "Connect-Accept-Encoding"} {
		if h.Get(name) != "" {
			h.Set(name, "identity")
		}
	}
	for _, name := range []string{"Range", "If-Range", "A-Im", "Sec-Websocket-Extensions"} {
		h.Del(name)
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		for _, name := range []string{"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"} {
			h.Del(name)
		}
	}
}
