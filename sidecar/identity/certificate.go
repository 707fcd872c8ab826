package identity

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"sallyport/control/api"
)

const (
	trustDomainName = "sallyport"
	controlID       = "spiffe://sallyport/control"
)

// certificate is one generation of a sandbox's X.509-SVID and what it trusts.
type certificate struct {
	tls        tls.Certificate
	leaf       *x509.Certificate
	roots      *x509bundle.Bundle
	generation uint64
}

// newCertificate checks that c is for key and for the sandbox named, and that
// its own roots vouch for it.
func newCertificate(c *api.Certificate, key *ecdsa.PrivateKey, sandbox string) (*certificate, error) {
	roots := x509bundle.New(spiffeid.RequireTrustDomainFromString(trustDomainName))
	for _, der := range c.GetRoots() {
		root, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("read the control plane's root certificate: %w", err)
		}
		roots.AddX509Authority(root)
	}
	if len(c.GetChain()) == 0 {
		return nil, errors.New("the control plane sent no certificate")
	}
	leaf, err := x509.ParseCertificate(c.GetChain()[0])
	if err != nil {
		return nil, fmt.Errorf("read the sandbox's certificate: %w", err)
	}
	// Verified at its own time: a restored certificate may have expired and still
	// be renewed, and a clock that is wrong is better reported by whom it stops.
	id, _, err := x509svid.ParseAndVerify(c.GetChain(), roots, x509svid.WithTime(leaf.NotAfter))
	if err != nil {
		return nil, fmt.Errorf("verify the sandbox's certificate: %w", err)
	}
	if !strings.HasPrefix(id.Path(), "/team/") || !strings.HasSuffix(id.Path(), "/sandbox/"+sandbox) {
		return nil, fmt.Errorf("the certificate is for %s, not for sandbox %s", id, sandbox)
	}
	if !key.PublicKey.Equal(leaf.PublicKey) {
		return nil, errors.New("the certificate is for another key")
	}
	return &certificate{
		tls:        tls.Certificate{Certificate: c.GetChain(), PrivateKey: key, Leaf: leaf},
		leaf:       leaf,
		roots:      roots,
		generation: c.GetGeneration(),
	}, nil
}

// message is the certificate as it came.
func (c *certificate) message() *api.Certificate {
	m := &api.Certificate{Chain: c.tls.Certificate, Generation: c.generation}
	for _, root := range c.roots.X509Authorities() {
		m.Roots = append(m.Roots, root.Raw)
	}
	return m
}

// trusts are the protocols that name its roots.
func (c *certificate) trusts() []string {
	var protocols []string
	for _, root := range c.roots.X509Authorities() {
		protocols = append(protocols, api.TrustedBy(sha256.Sum256(root.Raw)))
	}
	return protocols
}

// renewAt is a third into the certificate's life: two thirds remain to sit out
// an outage of the control plane.
func (c *certificate) renewAt() time.Time {
	return c.leaf.NotBefore.Add(c.leaf.NotAfter.Sub(c.leaf.NotBefore) / 3)
}

// verifyServer holds a connection to the control plane's own SPIFFE ID under roots.
func verifyServer(state tls.ConnectionState, roots x509bundle.Source) error {
	id, _, err := x509svid.Verify(state.PeerCertificates, roots)
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Errorf("%w: %w; is the clock of this machine or of the control plane wrong?", ErrUntrusted, err)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUntrusted, err)
	case id.String() != controlID:
		return fmt.Errorf("%w: it calls itself %s", ErrUntrusted, id)
	}
	return nil
}
