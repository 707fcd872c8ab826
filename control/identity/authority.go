package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"time"
)

// authorityLifetime of the CA's certificate. Its key never leaves the database
// unsealed, and sidecars pin it, so it is long.
const authorityLifetime = 10 * 365 * 24 * time.Hour

// Authority is the control plane's CA. Safe for concurrent use.
type Authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	now  func() time.Time
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

// newAuthority reads what generateAuthority made. It does not keep key.
func newAuthority(cert, key []byte, now func() time.Time) (*Authority, error) {
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
	return &Authority{cert: parsed, key: signer, now: now}, nil
}

// Certificate is the CA's certificate in DER.
func (a *Authority) Certificate() []byte { return a.cert.Raw }

// PEM is the CA's certificate in PEM.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

func (a *Authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// sign issues a leaf. Its serial number is random (RFC 5280 section 4.1.2.2).
func (a *Authority) sign(template *x509.Certificate, publicKey any) ([]byte, error) {
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.BasicConstraintsValid = true
	if template.NotAfter.After(a.cert.NotAfter) {
		template.NotAfter = a.cert.NotAfter
	}
	return x509.CreateCertificate(rand.Reader, template, a.cert, publicKey, a.key)
}
