package gate

import (
	"errors"
	"fmt"
	"io"
)

// preface begins every HTTP/2 connection (RFC 9113 section 3.4). No request in
// HTTP/1 begins so: PRI is kept free for it.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// peekPreface reads on for as long as a client that spoke no TLS says what
// begins HTTP/2, and reports whether it has said all of it.
func peekPreface(r io.Reader) (bool, error) {
	var buf [len(preface)]byte
	seen := 0
	for seen < len(preface) && preface[:seen] == string(buf[:seen]) {
		n, err := r.Read(buf[seen:])
		seen += n
		if errors.Is(err, io.EOF) {
			break // whoever reads what was seen will find it wanting
		}
		if err != nil {
			return false, fmt.Errorf("read the first bytes: %w", err)
		}
	}
	return string(buf[:seen]) == preface, nil
}
