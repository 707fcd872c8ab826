package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"sync"
	"time"

	"sallyport/control/api"
)

// serverLifetime of the control plane's own certificates. They live in memory
// and are replaced at half of it.
const serverLifetime = 24 * time.Hour

// Server is the control plane's own certificate, replaced before it expires, and
// when the clock was set back. There is one of each CA that a client asks for.
// Safe for concurrent use.
type Server struct {
	authority *Authority
	names     []string
	choose    func(*roots, []string) *ca

	mu    sync.Mutex
	certs map[*ca]*tls.Certificate
}

// NewServer gives the certificate of a listener for sidecars that is known by names
// (DNS names and addresses) and as ServerID.
func (a *Authority) NewServer(names []string) (*Server, error) {
	return a.newServer(names, (*roots).trustedBy)
}

// NewAdminServer gives that of a listener for clients that can't say whom they
// trust: it stays with the previous CA until that is retired.
func (a *Authority) NewAdminServer(names []string) (*Server, error) {
	return a.newServer(names, func(r *roots, _ []string) *ca {
		if r.previous != nil {
			return r.previous
		}
		return r.active
	})
}

func (a *Authority) newServer(names []string, choose func(*roots, []string) *ca) (*Server, error) {
	s := &Server{authority: a, names: names, choose: choose}
	if _, err := s.certificate(nil); err != nil {
		return nil, err
	}
	return s, nil
}

// trustedBy is the CA for a client that offers protocols: the first that it trusts,
// or the active one, if it does not say.
func (r *roots) trustedBy(protocols []string) *ca {
	for _, c := range r.all() {
		if slices.Contains(protocols, api.TrustedBy(c.fingerprint())) {
			return c
		}
	}
	return r.active
}

// GetCertificate is for tls.Config.
func (s *Server) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return s.certificate(hello.SupportedProtos)
}

func (s *Server) certificate(protocols []string) (*tls.Certificate, error) {
	set := s.authority.set.Load()
	issuer := s.choose(set, protocols)
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.certs, func(c *ca, _ *tls.Certificate) bool { return !slices.Contains(set.all(), c) })
	now, known := s.authority.now(), s.certs[issuer]
	if known != nil && now.After(known.Leaf.NotBefore) && now.Before(known.Leaf.NotBefore.Add(serverLifetime/2)) {
		return known, nil
	}
	cert, err := issuer.issueServer(s.names, now)
	if err != nil {
		return nil, fmt.Errorf("issue the control plane's own certificate: %w", err)
	}
	if s.certs == nil {
		s.certs = make(map[*ca]*tls.Certificate)
	}
	s.certs[issuer] = cert
	return cert, nil
}

func (c *ca) issueServer(names []string, now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		URIs:        []*url.URL{ServerID().URL()},
		NotBefore:   now.Add(-Backdate),
		NotAfter:    now.Add(serverLifetime),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := c.sign(template, key.Public())
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	// The CA is sent too: a sidecar that only has its fingerprint checks it there.
	return &tls.Certificate{Certificate: [][]byte{der, c.cert.Raw}, PrivateKey: key, Leaf: leaf}, nil
}
