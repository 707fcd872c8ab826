package gate

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
)

// preface begins every HTTP/2 connection (RFC 9113 section 3.4). No request in
// HTTP/1 begins so: PRI is kept free for it.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// peekPreface reads on for as long as a client that spoke no TLS says what
// begins HTTP/2, and reports whether it has said all of it.
func peekPreface(raw net.Conn, seen *bytes.Buffer) (bool, error) {
	var buf [len(preface)]byte
	for seen.Len() < len(preface) && preface[:seen.Len()] == string(seen.Bytes()) {
		n, err := raw.Read(buf[:len(preface)-seen.Len()])
		seen.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			break // whoever reads what was seen will find it wanting
		}
		if err != nil {
			return false, fmt.Errorf("read the first bytes: %w", err)
		}
	}
	return string(seen.Bytes()) == preface, nil
}
