// Package mint is a sandbox's own certificate authority. Its key exists only in
// the worker's memory; the sandbox trusts its certificate and nobody else does.
package mint

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"time"

	"github.com/maypok86/otter/v2"
)

const (
	// authorityLife outlives any sandbox: nothing is gained by an early end, as
	// the key dies with the worker and only this sandbox trusts it.
	authorityLife = 397 * 24 * time.Hour
	leafLife      = 24 * time.Hour
	backdate      = 5 * time.Minute
	// cachedLeaves bounds memory against a flood of names.
	cachedLeaves = 4096
)

// Authority mints leaves for the names an agent connects to.
type Authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	// One key serves all leaves: making one a name would cost more than signing
	// and separate nothing, since every leaf is served by this process.
	leafKey *ecdsa.PrivateKey
	leaves  *otter.Cache[string, *tls.Certificate]
}

// New makes an authority with a fresh key.
func New() (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the sandbox CA's key: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{Organization: []string{"Sallyport"}, CommonName: "Sallyport sandbox CA " + hex.EncodeToString(serial.Bytes()[:4])},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(authorityLife),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign the sandbox CA: %w", err)
	}
	return open(der, key)
}

func open(der []byte, key *ecdsa.PrivateKey) (*Authority, error) {
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read the sandbox CA: %w", err)
	}
	if public, ok := certificate.PublicKey.(*ecdsa.PublicKey); !ok || !public.Equal(key.Public()) {
		return nil, errors.New("the sandbox CA's key is not its certificate's")
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the leaf key: %w", err)
	}
	leaves, err := otter.New(&otter.Options[string, *tls.Certificate]{MaximumSize: cachedLeaves})
	if err != nil {
		return nil, fmt.Errorf("make the leaf cache: %w", err)
	}
	return &Authority{certificate: certificate, key: key, leafKey: leafKey, leaves: leaves}, nil
}

// CertificatePEM is the public certificate that the sandbox trusts.
func (a *Authority) CertificatePEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
}

// Leaf gives a certificate for one name. Concurrent calls for a name that is not
// cached mint it once.
func (a *Authority) Leaf(ctx context.Context, name string) (*tls.Certificate, error) {
	leaf, err := a.leaves.Get(ctx, name, otter.LoaderFunc[string, *tls.Certificate](a.sign))
	if err == nil && time.Until(leaf.Leaf.NotAfter) < leafLife/2 {
		a.leaves.Invalidate(name)
		leaf, err = a.leaves.Get(ctx, name, otter.LoaderFunc[string, *tls.Certificate](a.sign))
	}
	return leaf, err
}

func (a *Authority) sign(_ context.Context, name string) (*tls.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial,
		DNSNames:     []string{name},
		NotBefore:    now.Add(-backdate),
		NotAfter:     now.Add(leafLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, a.certificate, a.leafKey.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("sign a leaf for %q: %w", name, err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read the leaf for %q: %w", name, err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.leafKey, Leaf: leaf}, nil
}

// newSerial gives 126 random bits below a set one: positive, never zero, and at
// least the 64 bits that RFC 5280 verifiers expect.
func newSerial() (*big.Int, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b[:]), nil
}

// Marshal gives the authority with its private key, for the worker that takes
// over when this one dies. The caller wipes it.
func (a *Authority) Marshal() ([]byte, error) {
	key, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return nil, fmt.Errorf("encode the sandbox CA's key: %w", err)
	}
	defer clear(key)
	var b bytes.Buffer
	for _, block := range []*pem.Block{{Type: "CERTIFICATE", Bytes: a.certificate.Raw}, {Type: "PRIVATE KEY", Bytes: key}} {
		if err := pem.Encode(&b, block); err != nil {
			return nil, fmt.Errorf("encode the sandbox CA: %w", err)
		}
	}
	return b.Bytes(), nil
}

// Restore is the inverse of Marshal.
func Restore(state []byte) (*Authority, error) {
	certificate, rest := pem.Decode(state)
	key, _ := pem.Decode(rest)
	if certificate == nil || key == nil {
		return nil, errors.New("the sandbox CA's state is not two PEM blocks")
	}
	defer clear(key.Bytes)
	parsed, err := x509.ParsePKCS8PrivateKey(key.Bytes)
	if err != nil {
		return nil, errors.New("the sandbox CA's key can't be read")
	}
	ecKey, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("the sandbox CA's key is a %T, want ECDSA", parsed)
	}
	return open(certificate.Bytes, ecKey)
}

// LogValue keeps the keys out of logs.
func (a *Authority) LogValue() slog.Value { return slog.StringValue(a.String()) }

func (a *Authority) String() string { return a.certificate.Subject.CommonName }

// GoString keeps the keys out of %#v.
func (a *Authority) GoString() string { return a.String() }
