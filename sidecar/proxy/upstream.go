package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// DialFunc connects to a host by name. It resolves and checks by itself.
type DialFunc func(ctx context.Context, host string, port uint16) (net.Conn, error)

const (
	handshakeTimeout = 15 * time.Second
	continuePause    = time.Second // how long an upstream may take to say 100
	// lastWrite is how long the end of a request may take to be sent when its answer is
	// complete. An upstream may answer all and read no more.
	lastWrite      = 100 * time.Millisecond
	mostIdle       = 1024
	upstreamBuffer = 16 << 10
	// upstreamWindow bounds what an upstream may have sent on one HTTP/2
	// connection that no client has read yet; net/http bounds a stream to 4 MiB.
	upstreamWindow = 64 << 20
	pingAfter      = 30 * time.Second // of silence, to see whether the upstream is still there
	// maxAnswerHead bounds the heads of a response and of the 1xx before it.
	maxAnswerHead = 256 << 10
)

// bounds are those of the connections to upstreams.
type bounds struct {
	answer  time.Duration // the wait for a response's head; models think for minutes
	idle    time.Duration // how long a connection is kept that nobody uses
	queue   time.Duration // the wait for one of perHost
	perHost int           // requests of one credential under way to one host; more wait
}

func usualBounds() bounds {
	return bounds{answer: 15 * time.Minute, idle: 90 * time.Second, queue: 15 * time.Second, perHost: 256}
}

// poolKey separates upstream connections, so that none authenticated with one
// credential or version ever serves another. The zero key serves all requests
// without a credential.
type poolKey struct {
	credential string
	version    uint64
}

// place is what connections go to.
type place struct {
	host string
	port uint16
	tls  bool
}

// upstreams are the outer doors.
type upstreams struct {
	dial    DialFunc
	roots   *x509.CertPool
	buffers *buffers
	bounds  bounds
	now     func() time.Time // of certificates; nil: time.Now

	mu    sync.Mutex
	pools map[poolKey]*pool
	// good are the versions of credentials that there may be pools for; nil: all.
	good func(poolKey) bool
	// onlyHTTP2 are the places that refused HTTP/1.1, until when that is believed.
	onlyHTTP2 map[place]time.Time
}

func newUpstreams(dial DialFunc, roots *x509.CertPool, buffers *buffers) *upstreams {
	return &upstreams{dial: dial, roots: roots, buffers: buffers, bounds: usualBounds(), pools: make(map[poolKey]*pool), onlyHTTP2: make(map[place]time.Time)}
}

// roundTrip sends a request and gives the head of its response. What the client
// speaks is tried first: whoever speaks HTTP/1.1 to the client's face does so
// behind it too, and nothing is translated.
func (u *upstreams) roundTrip(ctx context.Context, t *travel, out *http.Request) (*http.Response, error) {
	if t.plan.Certificate != nil {
		ctx = withCertificate(ctx, t.plan.Certificate)
	}
	p, err := u.pool(poolKey{t.plan.Credential, t.plan.Version})
	if err != nil {
		return nil, err
	}
	response, err := u.roundTripIn(ctx, p, t, out)
	if errors.Is(err, errClosedPool) { // another is in its place, if it may be sent still
		return nil, &recalledError{cause: err}
	}
	return response, err
}

func (u *upstreams) roundTripIn(ctx context.Context, p *pool, t *travel, out *http.Request) (*http.Response, error) {
	to := t.place()
	upgrade := upgradeType(out.Header) != ""
	if upgrade || !t.HTTP2 && !u.refusesHTTP1(to) {
		response, err := p.wires.roundTrip(ctx, to, t, out)
		if !errors.Is(err, errOnlyHTTP2) {
			return response, err
		}
		if upgrade {
			return nil, Errorf(http.StatusBadGateway, "upgrade_failed", "%s speaks HTTP/2 only, where a connection can't change its protocol", t.Host)
		}
		u.noteHTTP2(to)
	}
	return p.roundTrip(ctx, t, out)
}

// pool gives the connections for a credential's version, if that may still be used.
func (u *upstreams) pool(key poolKey) (*pool, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	p := u.pools[key]
	if p == nil {
		if u.good != nil && !u.good(key) {
			return nil, &recalledError{cause: ErrChanged}
		}
		p = u.newPool()
		u.pools[key] = p
	}
	return p, nil
}

func placeOf(address string, secure bool) (place, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return place{}, fmt.Errorf("read the upstream's address: %w", err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return place{}, fmt.Errorf("read the upstream's port: %w", err)
	}
	return place{host, uint16(n), secure}, nil
}

// errOnlyHTTP2 is that of an upstream that was offered HTTP/1.1 alone.
var errOnlyHTTP2 = errors.New("the upstream speaks HTTP/2 only")

// errClientCertificate is that of an upstream that wants to know the client by a
// certificate.
var errClientCertificate = errors.New("the upstream asks for a client certificate")

// connect dials, and verifies who answers.
func (u *upstreams) connect(ctx context.Context, to place, sessions tls.ClientSessionCache, protocols ...string) (net.Conn, error) {
	raw, err := u.dial(ctx, to.host, to.port)
	if err != nil || !to.tls {
		return raw, err
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	below := &tap{Conn: raw}
	secured := tls.Client(below, &tls.Config{
		ServerName:         to.host,
		RootCAs:            u.roots,
		MinVersion:         tls.VersionTLS12,
		NextProtos:         protocols,
		ClientSessionCache: sessions,
		Time:               u.now,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if certificate := certificateOf(ctx); certificate != nil {
				below.shown = true
				return certificate, nil
			}
			below.asked = true
			return new(tls.Certificate), nil
		},
	})
	if err := secured.HandshakeContext(ctx); err != nil {
		raw.Close()
		switch {
		case isAlert(err, "no application protocol") && len(protocols) == 1:
			return nil, errOnlyHTTP2
		case isAlert(err, "") && below.asked:
			return nil, fmt.Errorf("%w: %w", errClientCertificate, err)
		case isAlert(err, "") && below.shown:
			return nil, fmt.Errorf("%w: %w", errCertificateRefused, err)
		}
		return nil, err
	}
	if secured.ConnectionState().NegotiatedProtocol == "h2" {
		below.Conn = gather(raw, &u.buffers.gathers)
	}
	return secured, nil
}

// isAlert reports whether the other side ended TLS by an alert with this text.
// crypto/tls gives a peer's alert by its text alone.
func isAlert(err error, text string) bool {
	var alert *net.OpError
	return errors.As(err, &alert) && alert.Op == "remote error" && (text == "" || alert.Err.Error() == "tls: "+text)
}

// beliefTime is how long an upstream that refused HTTP/1.1 is not asked again.
const beliefTime = 10 * time.Minute

func (u *upstreams) refusesHTTP1(to place) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	until, found := u.onlyHTTP2[to]
	return found && time.Now().Before(until)
}

func (u *upstreams) noteHTTP2(to place) {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	for other, until := range u.onlyHTTP2 {
		if now.After(until) {
			delete(u.onlyHTTP2, other)
		}
	}
	u.onlyHTTP2[to] = now.Add(beliefTime)
}

// admit has connections made for more versions of credentials, until the next keep.
func (u *upstreams) admit(versions ...map[string]uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if before := u.good; before != nil {
		u.good = func(key poolKey) bool { return before(key) || among(versions, key) }
	}
}

func among(versions []map[string]uint64, key poolKey) bool {
	return slices.ContainsFunc(versions, func(named map[string]uint64) bool {
		version, found := named[key.credential]
		return found && version == key.version
	})
}

// keep closes the connections of every credential version that is in none of the
// maps, those in use when their request ends.
func (u *upstreams) keep(versions ...map[string]uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.good = func(key poolKey) bool { return key.credential == "" || among(versions, key) }
	for key, p := range u.pools {
		if !u.good(key) {
			p.retire()
			delete(u.pools, key)
		}
	}
}

func (u *upstreams) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for key, p := range u.pools {
		p.retire()
		delete(u.pools, key)
	}
}
