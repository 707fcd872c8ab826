package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"sync/atomic"
	"time"
)

// authorityLifetime of the CA's certificate. Its key never leaves the database
// unsealed, and sidecars pin it, so it is long.
const authorityLifetime = 10 * 365 * 24 * time.Hour

// Authority is the control plane's CA, or the CAs while one succeeds another.
// Safe for concurrent use.
type Authority struct {
	now func() time.Time
	set atomic.Pointer[roots]
}

// roots are the CAs of an installation. Certificates are issued by active, and
// those of any are trusted.
type roots struct {
	stored         []byte // what they were read from
	active         *ca
	next, previous *ca // nil: none
}

type ca struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func (r *roots) all() []*ca {
	return slices.DeleteFunc([]*ca{r.active, r.next, r.previous}, func(c *ca) bool { return c == nil })
}

// generateAuthority makes a new CA and gives its certificate and PKCS #8 key.
func generateAuthority(now time.Time) (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make the control CA's key: %w", err)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "Sallyport control CA"},
		URIs:                  []*url.URL{trustDomain().ID().URL()},
		NotBefore:             now.Add(-Backdate),
		NotAfter:              now.Add(authorityLifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	cert, err = x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, nil, fmt.Errorf("make the control CA's certificate: %w", err)
	}
	key, err = x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, fmt.Errorf("encode the control CA's key: %w", err)
	}
	return cert, key, nil
}

// newCA reads what generateAuthority made. It does not keep key.
func newCA(cert, key []byte) (*ca, error) {
	parsed, err := x509.ParseCertificate(cert)
	if err != nil {
		return nil, fmt.Errorf("read the control CA's certificate: %w", err)
	}
	private, err := x509.ParsePKCS8PrivateKey(key)
	if err != nil {
		return nil, errors.New("read the control CA's key: it is not PKCS #8")
	}
	signer, ok := private.(*ecdsa.PrivateKey)
	if !ok || !signer.PublicKey.Equal(parsed.PublicKey) {
		return nil, errors.New("the control CA's key is not the key of its certificate")
	}
	return &ca{parsed, signer}, nil
}

// Certificate is the certificate, in DER, of the CA that issues.
func (a *Authority) Certificate() []byte { return a.set.Load().active.cert.Raw }

// Roots are the certificates, in DER, of all CAs that sidecars should trust.
func (a *Authority) Roots() [][]byte {
	var ders [][]byte
	for _, c := range a.set.Load().all() {
		ders = append(ders, c.cert.Raw)
	}
	return ders
}

// PEM is the same in PEM.
func (a *Authority) PEM() []byte {
	var text []byte
	for _, der := range a.Roots() {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return text
}

// sign issues a leaf. Its serial number is random (RFC 5280 section 4.1.2.2).
func (c *ca) sign(template *x509.Certificate, publicKey any) ([]byte, error) {
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.BasicConstraintsValid = true
	if template.NotAfter.After(c.cert.NotAfter) {
		template.NotAfter = c.cert.NotAfter
	}
	return x509.CreateCertificate(rand.Reader, template, c.cert, publicKey, c.key)
}

func (c *ca) fingerprint() [sha256.Size]byte { return sha256.Sum256(c.cert.Raw) }
