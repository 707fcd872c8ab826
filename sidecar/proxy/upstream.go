package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// DialFunc connects to a host by name. It resolves and checks by itself.
type DialFunc func(ctx context.Context, host string, port uint16) (net.Conn, error)

// poolKey separates upstream connections, so that none authenticated with one
// credential or version ever serves another. The zero key serves all requests
// without a credential.
type poolKey struct {
	credential string
	version    uint64
}

// upstreams are the outer doors: one pool of connections a poolKey.
type upstreams struct {
	dial  DialFunc
	roots *x509.CertPool

	mu    sync.Mutex
	pools map[poolKey]*http.Transport
}

func newUpstreams(dial DialFunc, roots *x509.CertPool) *upstreams {
	return &upstreams{dial: dial, roots: roots, pools: make(map[poolKey]*http.Transport)}
}

func (u *upstreams) transport(key poolKey) *http.Transport {
	u.mu.Lock()
	defer u.mu.Unlock()
	t := u.pools[key]
	if t == nil {
		t = u.newTransport()
		u.pools[key] = t
	}
	return t
}

func (u *upstreams) newTransport() *http.Transport {
	return &http.Transport{
		Proxy: nil, // an inherited HTTPS_PROXY would lead the credential elsewhere
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			host, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, fmt.Errorf("read the upstream's address: %w", err)
			}
			n, err := strconv.ParseUint(port, 10, 16)
			if err != nil {
				return nil, fmt.Errorf("read the upstream's port: %w", err)
			}
			return u.dial(ctx, host, uint16(n))
		},
		TLSClientConfig: &tls.Config{
			RootCAs:            u.roots,
			MinVersion:         tls.VersionTLS12,
			ClientSessionCache: tls.NewLRUClientSessionCache(0),
		},
		ForceAttemptHTTP2:     true,
		TLSHandshakeTimeout:   15 * time.Second,
		ExpectContinueTimeout: time.Second,
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConns:          1024,
		MaxIdleConnsPerHost:   256, // net/http keeps 2, and pays a handshake for the rest
		DisableCompression:    true,
		ReadBufferSize:        16 << 10,
		WriteBufferSize:       16 << 10,
	}
}

// keep closes the idle connections of every credential version that is not
// named; those in use close when their request ends.
func (u *upstreams) keep(versions map[string]uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for key, t := range u.pools {
		if version, found := versions[key.credential]; key.credential != "" && (!found || version != key.version) {
			t.CloseIdleConnections()
			delete(u.pools, key)
		}
	}
}

func (u *upstreams) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for key, t := range u.pools {
		t.CloseIdleConnections()
		delete(u.pools, key)
	}
}
