package exchange

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"syscall"
	"time"

	"sallyport/control"
	"sallyport/control/api/reach"
)

const (
	requestTimeout = 10 * time.Second
	maxAnswer      = 1 << 20 // bytes of a body
	maxAnswerHead  = 64 << 10
	// maxToken is of an answer with a token, in bytes. All of it is read into memory as
	// JSON, of which brackets alone take forty times as much.
	maxToken = 256 << 10
	// maxConns is how many connections one host has at once: more than one team can take.
	maxConns = 32
)

// Reach is where exchanges may go beyond public addresses.
type Reach struct {
	Networks []netip.Prefix // private ones that are meant
	Roots    *x509.CertPool // nil: the system's

	// Certificate gives what is shown to a server that asks for one, as that of
	// tls.Config does; nil: none.
	Certificate func(*tls.CertificateRequestInfo) (*tls.Certificate, error)
}

// NewClient makes the client that secrets are exchanged by. It speaks TLS only and
// follows no redirect. It dials public addresses only, and those of r, by what a name
// resolved to: the one who stores a credential chooses where the exchange goes, and
// must get nowhere by it that only this machine gets to.
func NewClient(r Reach) *http.Client {
	guard := reach.NewGuard()
	meant := func(a netip.Addr) bool {
		return slices.ContainsFunc(r.Networks, func(n netip.Prefix) bool { return n.Contains(a) })
	}
	dialer := &net.Dialer{Timeout: requestTimeout, ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		a, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("%w: %s", reach.ErrForbidden, address)
		}
		if meant(a.Addr()) {
			return guard.Named(a.Addr())
		}
		return guard.Public(a.Addr())
	}}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil || meant(addressOf(conn.RemoteAddr())) {
				return conn, err
			}
			return conn, notThisMachine(conn)
		},
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: r.Roots, GetClientCertificate: r.Certificate},
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    requestTimeout,
		ResponseHeaderTimeout:  requestTimeout,
		MaxResponseHeaderBytes: maxAnswerHead,
		MaxConnsPerHost:        maxConns,
		IdleConnTimeout:        30 * time.Second,
	}
	return &http.Client{
		Transport:     &strict{transport},
		Timeout:       requestTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// notThisMachine closes a connection to one of this machine's own public addresses:
// what listens there is as private as loopback.
func notThisMachine(conn net.Conn) error {
	local, remote := addressOf(conn.LocalAddr()), addressOf(conn.RemoteAddr())
	if local != remote {
		return nil
	}
	conn.Close()
	return fmt.Errorf("%w: %s is this machine", reach.ErrForbidden, remote)
}

func addressOf(a net.Addr) netip.Addr { return a.(*net.TCPAddr).AddrPort().Addr().Unmap() }

// strict is a RoundTripper that speaks TLS only, and bounds what it answers.
type strict struct{ under *http.Transport }

var errPlain = errors.New("only https is spoken")

func (s *strict) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" {
		return nil, errPlain
	}
	response, err := s.under.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	return bounded(response, maxAnswer), nil
}

// CloseIdleConnections is for http.Client.
func (s *strict) CloseIdleConnections() { s.under.CloseIdleConnections() }

// Bounded is client, with answers that end after so many bytes.
func Bounded(client *http.Client, bytes int64) *http.Client {
	less := *client
	less.Transport = &shorter{client.Transport, bytes}
	return &less
}

// shorter is a RoundTripper whose answers end after so many bytes.
type shorter struct {
	under http.RoundTripper
	bytes int64
}

func (s *shorter) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := s.under.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	return bounded(response, s.bytes), nil
}

func bounded(response *http.Response, bytes int64) *http.Response {
	response.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(response.Body, bytes), response.Body}
	return response
}

// checkURL reports why an exchange can't go to a URL.
func checkURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https":
		return errors.New("it is a URL that begins with https://")
	case u.User != nil || u.Fragment != "":
		return errors.New("it is a URL without a user and without a fragment")
	}
	return nil
}

// failed is the error of an exchange with the server of a URL, by what is known of err
// that can't quote an answer or a secret.
func failed(server string, err error) error {
	return control.Errorf(control.CodeExchange, "%s %s", host(server), Reason(err))
}

// Reason says what became of a request by NewClient's client, to go on after the
// server's name. It quotes nothing of err.
func Reason(err error) string {
	var verification *tls.CertificateVerificationError
	var name *net.DNSError
	var network net.Error
	switch {
	case errors.Is(err, reach.ErrForbidden):
		return "has an address that is not a public one; an operator allows a private network with --exchange-network"
	case errors.Is(err, errPlain):
		return "was asked for without TLS"
	case errors.As(err, &verification):
		return "has a certificate that is not trusted; an operator trusts another authority with --exchange-ca"
	case errors.As(err, &name):
		return "is a name that does not resolve"
	case errors.As(err, &network) && network.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("did not answer within %s", requestTimeout)
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refuses connections"
	}
	return "can't be reached, or does not answer as it should"
}
