package identity

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	"sallyport/control/api"
)

const (
	dialTimeout = 5 * time.Second
	// A silent connection is asked for a sign of life, so that a control plane
	// that vanished without a word is noticed in seconds.
	pingAfter   = 5 * time.Second
	pingTimeout = 5 * time.Second

	maxMessage = 16 << 20 // bytes; bindings are the largest
)

// link is the connection to the control plane: HTTP/2 over TLS 1.3. A renewed
// certificate needs a new connection, so the transport can be replaced while
// streams of the old one end in their own time.
type link struct {
	url    string
	tls    *tls.Config
	trusts func() []string // protocols that say which roots are trusted now

	mu        sync.Mutex
	transport *http.Transport
	retired   *http.Transport
	opening   api.Opening // the last
	session   string      // the newest; "" before the first stream is open
}

func newLink(controlURL string, worker uint64, certificate func() *tls.Certificate, trusts func() []string, verify func(tls.ConnectionState) error) (*link, error) {
	u, err := url.Parse(controlURL)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("the control plane's address %q: want https://HOST:PORT", controlURL)
	}
	l := &link{url: u.String(), trusts: trusts, opening: api.Opening{Worker: worker}, tls: &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return certificate(), nil
		},
		// The server is known by its SPIFFE ID under our own root, not by a DNS
		// name under the system's; verify does the whole check, on every connection.
		InsecureSkipVerify: true,
		VerifyConnection:   verify,
	}}
	l.transport = l.newTransport()
	return l, nil
}

func (l *link) newTransport() *http.Transport {
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	config := l.tls.Clone()
	config.NextProtos = append([]string{"h2"}, l.trusts()...)
	return &http.Transport{
		Proxy:               nil, // the environment says nothing about the control plane
		DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig:     config,
		TLSHandshakeTimeout: dialTimeout,
		IdleConnTimeout:     90 * time.Second,
		Protocols:           &protocols,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout:  pingAfter,
			PingTimeout:      pingTimeout,
			WriteByteTimeout: pingTimeout,
		},
	}
}

// client makes a client of the sidecar API over the link.
func (l *link) client() api.SidecarServiceClient {
	return api.NewSidecarServiceClient(&http.Client{
		Transport:     l,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, l.url, connect.WithReadMaxBytes(maxMessage))
}

// RoundTrip sends over the newest transport, and says which stream the call is
// for: a new one, or the one that was opened last.
func (l *link) RoundTrip(r *http.Request) (*http.Response, error) {
	watch := strings.HasSuffix(r.URL.Path, api.SidecarServiceWatchProcedure)
	r = r.Clone(r.Context())
	l.mu.Lock()
	transport := l.transport
	if watch {
		l.opening.Stream++
		r.Header.Set(api.HeaderOpening, l.opening.String())
	} else if l.session != "" {
		r.Header.Set(api.HeaderSession, l.session)
	}
	l.mu.Unlock()
	response, err := transport.RoundTrip(r)
	if err != nil || !watch {
		return response, err
	}
	if session := response.Header.Get(api.HeaderSession); session != "" {
		l.mu.Lock()
		l.session = session
		l.mu.Unlock()
	}
	return response, nil
}

// renew makes later calls use a new connection. A retired one closes when it
// has been idle for a while.
func (l *link) renew() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.retired != nil {
		l.retired.CloseIdleConnections()
	}
	l.retired, l.transport = l.transport, l.newTransport()
	l.retired.CloseIdleConnections()
}

func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.retired != nil {
		l.retired.CloseIdleConnections()
	}
	l.transport.CloseIdleConnections()
}
