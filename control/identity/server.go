package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"
)

// serverLifetime of the control plane's own certificates. They live in memory
// and are replaced at half of it.
const serverLifetime = 24 * time.Hour

// Server is the control plane's own certificate, replaced before it expires, and
// when the clock was set back.
// Safe for concurrent use.
type Server struct {
	authority *Authority
	names     []string

	mu   sync.Mutex
	cert *tls.Certificate
}

// NewServer gives the certificate of a listener that is known by names (DNS
// names and addresses) and as ServerID.
func (a *Authority) NewServer(names []string) (*Server, error) {
	s := &Server{authority: a, names: names}
	if _, err := s.certificate(); err != nil {
		return nil, err
	}
	return s, nil
}

// GetCertificate is for tls.Config.
func (s *Server) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return s.certificate()
}

func (s *Server) certificate() (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.authority.now(); s.cert != nil && now.After(s.cert.Leaf.NotBefore) && now.Before(s.cert.Leaf.NotBefore.Add(serverLifetime/2)) {
		return s.cert, nil
	}
	cert, err := s.authority.issueServer(s.names)
	if err != nil {
		return nil, fmt.Errorf("issue the control plane's own certificate: %w", err)
	}
	s.cert = cert
	return cert, nil
}

func (a *Authority) issueServer(names []string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := a.now()
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
	der, err := a.sign(template, key.Public())
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	// The CA is sent too: a sidecar that only has its fingerprint checks it there.
	return &tls.Certificate{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: key, Leaf: leaf}, nil
}
