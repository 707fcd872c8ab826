// Package identity issues and checks who is who between the control plane and
// its sidecars: a private CA, the control plane's own certificates, the SPIFFE
// X.509-SVIDs of sandboxes, and the one-time join tokens that buy the first one.
//
//	join token ──▶ CSR ──▶ SVID (1 h) ──▶ renewed, same key, until revoked
//	    └ pins the CA's certificate
package identity

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"net/url"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"sallyport/control"
)

const (
	// Lifetime of a sandbox's certificate. Short, since a key that was copied
	// out of a sidecar is good for no longer.
	Lifetime = time.Hour
	// Backdate lets a certificate work at once where clocks differ a little.
	Backdate = 5 * time.Minute
	// RenewalGrace is how long after its expiry a certificate may still renew,
	// so that an outage of the control plane does not orphan sandboxes.
	RenewalGrace = 24 * time.Hour
)

const (
	trustDomainName = "sallyport"
	controlPath     = "/control"
)

func trustDomain() spiffeid.TrustDomain {
	return spiffeid.RequireTrustDomainFromString(trustDomainName)
}

// ServerID is the SPIFFE ID of the control plane: spiffe://sallyport/control.
func ServerID() spiffeid.ID {
	return spiffeid.RequireFromPath(trustDomain(), controlPath)
}

// Sandbox is who a sandbox's certificate says it is.
type Sandbox struct {
	Team string // id
	ID   string
}

// spiffeID is spiffe://sallyport/team/TEAM/sandbox/ID.
func (s Sandbox) spiffeID() (spiffeid.ID, error) {
	return spiffeid.FromSegments(trustDomain(), "team", s.Team, "sandbox", s.ID)
}

func (s Sandbox) url() (*url.URL, error) {
	id, err := s.spiffeID()
	if err != nil {
		return nil, err
	}
	return id.URL(), nil
}

// KeyHash identifies a public key: the SHA-256 of its SubjectPublicKeyInfo.
func KeyHash(publicKey any) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(publicKey)
	if err != nil {
		return nil, control.Errorf(control.CodeInvalid, "the public key is of an unknown kind")
	}
	hash := sha256.Sum256(der)
	return hash[:], nil
}

// checkKey keeps weak and exotic keys out: P-256 and Ed25519 only.
func checkKey(publicKey any) error {
	switch key := publicKey.(type) {
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() {
			return nil
		}
	case ed25519.PublicKey:
		return nil
	}
	return control.Errorf(control.CodeInvalid, "the key of a sandbox must be ECDSA P-256 or Ed25519")
}
