package gate_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"sallyport/sidecar/gate"
)

var errSeen = errors.New("the hello was seen")

// What is peeked of a hello is what the server that is handed the connection will
// see in it: the same name and protocols, or neither takes it for a hello.
func FuzzHello(f *testing.F) {
	for _, config := range []*tls.Config{
		{ServerName: "api.example.com"}, {ServerName: "a.test", NextProtos: []string{"h2", "http/1.1"}, MaxVersion: tls.VersionTLS12}, {InsecureSkipVerify: true},
		{ServerName: "b.test", CurvePreferences: []tls.CurveID{tls.CurveP256}}, {ServerName: "c.test", NextProtos: []string{"acme-tls/1"}},
	} {
		hello := captureHelloOf(config)
		f.Add(hello)
		f.Add(hello[:len(hello)/2])
		f.Add(append(slices.Clone(hello), "\x15\x03\x01\x00\x02\x02\x28"...))
		f.Add(split(hello))
	}
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
	f.Add([]byte("\x16\x03\x01\xff\xff\x01\x00\xff\xfb"))
	f.Fuzz(func(t *testing.T, data []byte) {
		flow, rest, err := gate.Peek(&said{Reader: bytes.NewReader(data)})
		if err == nil && !bytes.Equal(rest, data) {
			t.Fatalf("read %q after peeking, sent %q", rest, data)
		}
		var served *tls.ClientHelloInfo
		tls.Server(&said{Reader: bytes.NewReader(data)}, &tls.Config{
			GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
				served = hello
				return nil, errSeen
			},
		}).Handshake()
		switch {
		case len(data) > 64<<10:
		case err != nil && served != nil:
			t.Fatalf("a server takes %q for a hello, peeking does not: %v", data, err)
		case err == nil && flow.TLS != (served != nil):
			t.Fatalf("TLS is %v in %q; to a server there is a hello: %v", flow.TLS, data, served != nil)
		case served != nil && (flow.SNI != served.ServerName || !slices.Equal(flow.ALPN, served.SupportedProtos)):
			t.Fatalf("%q is for %q %q; to a server for %q %q", data, flow.SNI, flow.ALPN, served.ServerName, served.SupportedProtos)
		}
	})
}

// split cuts a hello into records of a few bytes (RFC 8446 section 5.1).
func split(hello []byte) []byte {
	const head = 5
	var all []byte
	for piece := range slices.Chunk(hello[head:], 7) {
		all = append(append(all, hello[0], hello[1], hello[2], 0, byte(len(piece))), piece...)
	}
	return all
}

// said is a client that has said all it will.
type said struct {
	io.Reader
	net.Conn
}

func (s *said) Read(p []byte) (int, error)       { return s.Reader.Read(p) }
func (s *said) Write(p []byte) (int, error)      { return len(p), nil }
func (s *said) Close() error                     { return nil }
func (s *said) SetDeadline(time.Time) error      { return nil }
func (s *said) SetReadDeadline(time.Time) error  { return nil }
func (s *said) SetWriteDeadline(time.Time) error { return nil }
func (s *said) LocalAddr() net.Addr              { return new(net.TCPAddr) }
func (s *said) RemoteAddr() net.Addr             { return new(net.TCPAddr) }
