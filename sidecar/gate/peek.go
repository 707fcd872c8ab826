package gate

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

const (
	// recordTypeHandshake begins every TLS connection, RFC 8446 section 5.1. No
	// HTTP method begins with it.
	recordTypeHandshake = 0x16
	// maxHello bounds what a client may send before it is decided about. A hello
	// with ML-KEM key shares is about 2 KiB.
	maxHello = 64 << 10
)

var errPeeked = errors.New("the hello was seen")

// peek reads the first bytes of a connection into a replayable conn and fills
// the flow from them. crypto/tls parses the hello, so that what is decided about
// and what is served are read by the same parser.
func peek(raw net.Conn, flow *Flow) (*conn, error) {
	var first [1]byte
	if _, err := io.ReadFull(raw, first[:]); err != nil {
		return nil, fmt.Errorf("read the first byte: %w", err)
	}
	var seen bytes.Buffer
	seen.WriteByte(first[0])
	if first[0] == recordTypeHandshake {
		flow.TLS = true
		source := io.MultiReader(bytes.NewReader(first[:]), io.TeeReader(io.LimitReader(raw, maxHello), &seen))
		if err := peekHello(source, flow); err != nil {
			return nil, err
		}
	} else if http2, err := peekPreface(raw, &seen); err != nil {
		return nil, err
	} else if http2 {
		flow.Protocol = "h2"
	}
	return &conn{Conn: raw, flow: flow, peeked: bytes.NewReader(seen.Bytes()), closed: func() {}}, nil
}

func peekHello(source io.Reader, flow *Flow) error {
	err := tls.Server(readOnly{source}, &tls.Config{
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			flow.SNI, flow.ALPN = hello.ServerName, hello.SupportedProtos
			return nil, errPeeked
		},
	}).Handshake()
	if !errors.Is(err, errPeeked) {
		return fmt.Errorf("read the TLS ClientHello: %w", err)
	}
	return nil
}

// readOnly gives crypto/tls a connection it can't answer on.
type readOnly struct{ io.Reader }

func (readOnly) Write(p []byte) (int, error)      { return len(p), nil }
func (readOnly) Close() error                     { return nil }
func (readOnly) LocalAddr() net.Addr              { return nil }
func (readOnly) RemoteAddr() net.Addr             { return nil }
func (readOnly) SetDeadline(time.Time) error      { return nil }
func (readOnly) SetReadDeadline(time.Time) error  { return nil }
func (readOnly) SetWriteDeadline(time.Time) error { return nil }
