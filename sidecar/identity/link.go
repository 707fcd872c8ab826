package identity

import (
	"context"
	"crypto/tls"
	"net/http"
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

	// contestTimeout bounds how long somebody is contested who opens one stream after another.
	contestTimeout = 15 * time.Second
)

// link is the connection to the control plane: HTTP/2 over TLS 1.3. A renewed
// certificate needs a new connection, so the transport can be replaced while
// streams of the old one end in their own time.
type link struct {
	url    string // names the control plane; the dialer knows where it is
	dialer *dialer
	tls    *tls.Config
	trusts func() []string // protocols that say which roots are trusted now
	clock  *clock          // that answers set

	mu        sync.Mutex
	transport *http.Transport
	retired   *http.Transport
	opening   api.Opening   // the last
	session   string        // the newest; "" before the first stream is open
	opened    chan struct{} // closed when the last opening was answered; nil: there was none
}

func newLink(controlURL string, worker uint64, clock *clock, certificate func() *tls.Certificate, trusts func() []string, verify func(tls.ConnectionState) error) (*link, error) {
	replicas, err := ParseControl(controlURL)
	if err != nil {
		return nil, err
	}
	l := &link{url: replicas[0].String(), dialer: newDialer(replicas), trusts: trusts, clock: clock, opening: api.Opening{Worker: worker}, tls: &tls.Config{
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
		DialContext:         l.dialer.dial,
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
	if strings.HasSuffix(r.URL.Path, api.SidecarServiceWatchProcedure) {
		return l.open(r)
	}
	response, session, err := l.send(r)
	if mayRepeat(r) && l.stale(r, response, session, err) {
		if r, ok := repeat(r); ok {
			if err == nil {
				response.Body.Close()
			}
			response, _, err = l.send(r)
		}
	}
	return response, err
}

// open opens a stream, and keeps the session that it is given.
func (l *link) open(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	opened := make(chan struct{})
	defer close(opened)
	l.mu.Lock()
	transport := l.transport
	l.opening.Stream++
	l.opened = opened
	r.Header.Set(api.HeaderOpening, l.opening.String())
	l.mu.Unlock()
	asked := time.Now()
	response, err := transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	l.clock.hear(asked, response.Header)
	if session := response.Header.Get(api.HeaderSession); session != "" {
		l.mu.Lock()
		l.session = session
		l.mu.Unlock()
	}
	l.contest(r, transport, response.Header.Get(api.HeaderOpening))
	return response, nil
}

// contest opens a stream the same time as somebody else did who keeps ahead of us with
// a copy of the identity: two that are counted the same have the sandbox locked. last is
// what overtook an opening of ours. The opener of r is told when it tries again.
func (l *link) contest(r *http.Request, transport *http.Transport, last string) {
	ctx, cancel := context.WithTimeout(r.Context(), contestTimeout)
	defer cancel()
	for l.count(last) {
		again := r.Clone(ctx)
		again.Body = http.NoBody
		again.Header.Set(api.HeaderOpening, last)
		response, err := transport.RoundTrip(again)
		if err != nil {
			return
		}
		response.Body.Close()
		last = response.Header.Get(api.HeaderOpening)
	}
}

// count makes an opening the last of ours. It is false for one that we had counted.
func (l *link) count(opening string) bool {
	o, err := api.ParseOpening(opening)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil || o.Worker != l.opening.Worker || o.Stream <= l.opening.Stream {
		return false
	}
	l.opening = o
	return true
}

// send sends a call for the newest stream, and says which that was.
func (l *link) send(r *http.Request) (response *http.Response, session string, err error) {
	r = r.Clone(r.Context())
	l.mu.Lock()
	transport, session := l.transport, l.session
	if session != "" {
		r.Header.Set(api.HeaderSession, session)
	}
	l.mu.Unlock()
	asked := time.Now()
	if response, err = transport.RoundTrip(r); err == nil {
		l.clock.hear(asked, response.Header)
	}
	return response, session, err
}

// stale reports whether a call failed for a reason that has gone: its connection broke,
// as one to a replica that ends does, or a stream was opened at the same time.
func (l *link) stale(r *http.Request, response *http.Response, session string, err error) bool {
	if err != nil {
		return r.Context().Err() == nil
	}
	if response.StatusCode != http.StatusServiceUnavailable {
		return false
	}
	l.mu.Lock()
	opened := l.opened
	l.mu.Unlock()
	if opened != nil {
		select {
		case <-opened:
		case <-r.Context().Done():
			return false
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.session != session
}

// mayRepeat reports whether a call may be made twice. To ask twice for material does no
// harm, and what is allotted twice is used once at most.
func mayRepeat(r *http.Request) bool {
	return strings.HasSuffix(r.URL.Path, api.SidecarServiceFetchProcedure) || strings.HasSuffix(r.URL.Path, api.SidecarServiceAllotProcedure)
}

// repeat is r again, if it can be sent again.
func repeat(r *http.Request) (*http.Request, bool) {
	if r.GetBody == nil {
		return nil, false
	}
	body, err := r.GetBody()
	if err != nil {
		return nil, false
	}
	r = r.Clone(r.Context())
	r.Body = body
	return r, true
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
