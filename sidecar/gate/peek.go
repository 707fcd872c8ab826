package gate

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// recordTypeHandshake begins every TLS connection, RFC 8446 section 5.1. No HTTP
// method begins with it.
const recordTypeHandshake = 0x16

var errPeeked = errors.New("the hello was seen")

// peek fills the flow from a connection's first bytes. crypto/tls parses the
// hello, so that what is decided about and what is served are read by the same
// parser.
func peek(c *conn) error {
	var first [1]byte
	if _, err := io.ReadFull(c.look(), first[:]); err != nil {
		return fmt.Errorf("read the first byte: %w", err)
	}
	if first[0] == recordTypeHandshake {
		c.flow.TLS = true
		return peekHello(c.look(), c.flow)
	}
	http2, err := peekPreface(c.look())
	if http2 {
		c.flow.Protocol = "h2"
	}
	return err
}

func peekHello(source io.Reader, flow *Flow) error {
	err := tls.Server(readOnly{source}, &tls.Config{
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			flow.SNI, flow.ALPN, flow.Versions = hello.ServerName, hello.SupportedProtos, hello.SupportedVersions
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
