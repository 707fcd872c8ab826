package gate

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"
)

// newTLS is how TLS is ended.
func (g *Gate) newTLS() *tls.Config {
	c := &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1", "http/1.0"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return g.config.Certificate(hello.Context(), FlowOf(hello.Conn).Name)
		},
	}
	// A session is good for the name it was made for: crypto/tls would resume it
	// for any, and the client would not see a certificate for the other one.
	c.WrapSession = func(cs tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
		session.Extra = append(session.Extra, []byte(cs.ServerName))
		return c.EncryptTicket(cs, session)
	}
	c.UnwrapSession = func(ticket []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
		session, err := c.DecryptTicket(ticket, cs)
		if session == nil || err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(session.Extra, func(name []byte) bool { return string(name) == cs.ServerName }) {
			return nil, nil
		}
		return session, nil
	}
	// What would be safe from quantum computers here never leaves the machine, and
	// costs a tenth of a connection.
	usual := c.Clone()
	usual.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384}
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if slices.ContainsFunc(usual.CurvePreferences, func(id tls.CurveID) bool { return slices.Contains(hello.SupportedCurves, id) }) {
			return usual, nil
		}
		return nil, nil
	}
	return c
}

// secure ends TLS, where the client speaks it.
func (g *Gate) secure(ctx context.Context, c *conn) (net.Conn, *Refusal) {
	if !c.flow.TLS {
		return c, nil
	}
	c.alert = new(alert)
	ctx, cancel := outlive(ctx, handshakeGrace)
	defer cancel()
	secured := tls.Server(c, g.tls)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, g.handshakeRefusal(c.flow, c.alert.or(err))
	}
	c.alert = nil
	c.flow.Protocol = secured.ConnectionState().NegotiatedProtocol
	if c.flow.Protocol == "h2" && g.config.Gather != nil {
		c.Conn = g.config.Gather(c.Conn)
	}
	return secured, nil
}

// handshakeGrace is how long a handshake may go on when the gate ends. A client that
// does not trust us often ends with its sandbox, and its last word says why.
const handshakeGrace = 250 * time.Millisecond

// outlive gives a context that ends some time after its parent.
func outlive(parent context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	late := time.AfterFunc(time.Hour, cancel)
	late.Stop()
	stop := context.AfterFunc(parent, func() { late.Reset(grace) })
	return ctx, func() {
		stop()
		late.Stop()
		cancel()
	}
}

// alert is the last bytes that a client sent. An OpenSSL that is not content with
// our certificate says so in clear in TLS 1.3 too (it has no key to write with
// yet), which crypto/tls takes for a record that does not decrypt.
type alert [7]byte

func (a *alert) see(p []byte) {
	p = p[max(0, len(p)-len(a)):]
	copy(a[:], a[len(p):])
	copy(a[len(a)-len(p):], p)
}

// or gives the fatal alert that the client sent in clear (RFC 8446 section 6), or
// else err.
func (a *alert) or(err error) error {
	const recordTypeAlert, fatal = 21, 2
	if a[0] != recordTypeAlert || a[1] != 3 || a[3] != 0 || a[4] != 2 || a[5] != fatal {
		return err
	}
	return &net.OpError{Op: "remote error", Err: tls.AlertError(a[6])}
}

// distrust are the alerts by which a client says that it does not trust our
// leaf: bad_certificate of GnuTLS, Go and NSS, certificate_unknown of Java,
// unknown_ca of OpenSSL, rustls and NSS, unsupported_certificate and
// access_denied of some that pin. crypto/tls gives a peer's alert by its text alone.
var distrust = []string{"bad certificate", "unknown certificate", "unknown certificate authority", "unsupported certificate", "access denied"}

// handshakeRefusal tells a client that does not trust the sandbox's CA from any
// other failure, since only the first has a remedy.
func (g *Gate) handshakeRefusal(flow *Flow, err error) *Refusal {
	var remote *net.OpError
	switch {
	case errors.As(err, &remote) && remote.Op == "remote error":
		for _, text := range distrust {
			if strings.HasSuffix(remote.Err.Error(), text) {
				return &Refusal{Code: "untrusted_ca", Hint: "the client does not trust the sandbox's CA (" + remote.Err.Error() + ")"}
			}
		}
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return &Refusal{Code: "untrusted_ca", Hint: "the client left without a word when it had seen the certificate of the sandbox's CA, as those do that pin another"}
	case len(flow.ALPN) > 0 && !slices.ContainsFunc(flow.ALPN, func(p string) bool { return slices.Contains(g.tls.NextProtos, p) }):
		return &Refusal{Code: "alpn_refused", Hint: fmt.Sprintf("the client offers %q over TLS, and only HTTP/1.1 and HTTP/2 are read here", flow.ALPN)}
	case len(flow.Versions) > 0 && slices.Max(flow.Versions) < g.tls.MinVersion:
		return &Refusal{Code: "old_tls", Hint: fmt.Sprintf("the client speaks %s at most, and TLS 1.2 is the oldest that is read here", tls.VersionName(slices.Max(flow.Versions)))}
	}
	return &Refusal{Code: "tls_failed", Hint: fmt.Sprintf("TLS handshake: %v", err)}
}
