package redact

import (
	"encoding/binary"
	"math"
	"net/http"
	"strings"
)

// openMessage gives, for protocols of messages, a function that is shown a body
// piece by piece and says how much of its end is of a message that is not yet
// whole: nothing needs to be held back where one ends. Otherwise it gives nil. The
// function fails with ErrEncoding where a message says that it is compressed.
func openMessage(h http.Header) func([]byte) (int, error) {
	kind := h.Get("Content-Type")
	if strings.HasPrefix(kind, "application/grpc-web-text") {
		return nil // in base64
	}
	if strings.HasPrefix(kind, "application/grpc") || strings.HasPrefix(kind, "application/connect+") {
		return new(frames).open
	}
	return nil
}

// A message begins with a byte of flags and a length of four (gRPC over HTTP/2,
// Length-Prefixed-Message).
const (
	frameHead       = 5
	frameCompressed = 1 // the flag
)

// frames follows the messages of gRPC and Connect: a byte of flags, a length of
// four, and as many bytes.
type frames struct {
	head []byte // of the message that begins
	left int64  // bytes of the message that are to come
	size int    // bytes of it seen
}

func (f *frames) open(p []byte) (int, error) {
	for len(p) > 0 {
		if f.left == 0 {
			n := min(frameHead-len(f.head), len(p))
			f.head, p, f.size = append(f.head, p[:n]...), p[n:], f.size+n
			if len(f.head) < frameHead {
				break
			}
			if f.head[0]&frameCompressed != 0 {
				return f.size, ErrEncoding
			}
			f.left, f.head = int64(binary.BigEndian.Uint32(f.head[1:])), f.head[:0]
		}
		n := int(min(f.left, int64(len(p))))
		f.left, p = f.left-int64(n), p[n:]
		f.size = min(f.size, math.MaxInt-n) + n
		if f.left == 0 {
			f.size = 0
		}
	}
	return f.size, nil
}
