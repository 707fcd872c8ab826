package controltest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hpke"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net/http"
	"testing"
	"time"

	"connectrpc.com/connect"

	"sallyport/control/api"
)

// Sidecar is a minimal client of the sidecar API.
type Sidecar struct {
	Key         *ecdsa.PrivateKey
	CSR         []byte
	SealKey     hpke.PrivateKey
	ID          string
	Generation  uint64
	Certificate *api.Certificate         // the newest
	Client      api.SidecarServiceClient // presents it
	plane       *Plane
}

// NewSidecar has keys and no identity yet.
func (p *Plane) NewSidecar(t *testing.T) *Sidecar {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sealKey, err := api.GenerateSealKey()
	if err != nil {
		t.Fatal(err)
	}
	s := &Sidecar{Key: key, SealKey: sealKey, plane: p, CSR: CSR(t, key)}
	s.Client = p.Client(t, SelfSigned(t, key))
	return s
}

// Enroll uses a join token.
func (s *Sidecar) Enroll(t *testing.T, joinToken string) error {
	t.Helper()
	response, err := s.Client.Enroll(t.Context(), connect.NewRequest(&api.EnrollRequest{
		JoinToken: joinToken, Csr: s.CSR, SealKey: s.SealKey.PublicKey().Bytes(), Version: "test",
	}))
	if err != nil {
		return err
	}
	s.ID = response.Msg.GetSandboxId()
	s.Use(t, response.Msg.GetCertificate())
	return nil
}

// Renew sends a CSR for the next certificate.
func (s *Sidecar) Renew(ctx context.Context, csr []byte, generation uint64) (*api.Certificate, error) {
	response, err := s.Client.Renew(ctx, connect.NewRequest(&api.RenewRequest{Csr: csr, Generation: generation}))
	if err != nil {
		return nil, err
	}
	return response.Msg.GetCertificate(), nil
}

// Use makes Client present a certificate.
func (s *Sidecar) Use(t *testing.T, c *api.Certificate) {
	t.Helper()
	s.Certificate, s.Generation = c, c.GetGeneration()
	s.Client = s.plane.Client(t, tls.Certificate{Certificate: c.GetChain(), PrivateKey: s.Key})
}

// Move makes Client talk to another replica.
func (s *Sidecar) Move(t *testing.T, url string) {
	t.Helper()
	s.Client = s.plane.clientAt(t, url, tls.Certificate{Certificate: s.Certificate.GetChain(), PrivateKey: s.Key})
}

// Join makes a sandbox of the team's agent "a" and enrols a sidecar for it.
func (m *Team) Join(t *testing.T) *Sidecar {
	t.Helper()
	_, token := m.NewSandbox(t)
	s := m.NewSidecar(t)
	if err := s.Enroll(t, token); err != nil {
		t.Fatal(err)
	}
	return s
}

// Fetch asks for material and opens it.
func (s *Sidecar) Fetch(ctx context.Context, credential string, version uint64, host string) (api.Material, error) {
	response, err := s.Client.Fetch(ctx, connect.NewRequest(&api.FetchRequest{CredentialId: credential, Version: version, Host: host}))
	if err != nil {
		return api.Material{}, err
	}
	return api.OpenMaterial(s.SealKey, credential, response.Msg.GetVersion(), response.Msg.GetSealed())
}

// CACertificate is the control plane's CA.
func (p *Plane) CACertificate(t *testing.T) *x509.Certificate {
	t.Helper()
	cert, err := x509.ParseCertificate(p.Authority.Certificate())
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// Client connects with certificates, or none. It trusts the control plane's CA.
func (p *Plane) Client(t *testing.T, certificates ...tls.Certificate) api.SidecarServiceClient {
	t.Helper()
	return p.clientAt(t, p.SidecarURL, certificates...)
}

func (p *Plane) clientAt(t *testing.T, url string, certificates ...tls.Certificate) api.SidecarServiceClient {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(p.Authority.PEM()) {
		t.Fatal("the CA's PEM is not PEM")
	}
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: certificates, Time: p.now},
		Protocols:       &protocols,
	}
	t.Cleanup(transport.CloseIdleConnections)
	return api.NewSidecarServiceClient(&http.Client{Transport: transport}, url)
}

// CSR is a certificate request signed by key.
func CSR(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

// SelfSigned is the certificate of a newcomer.
func SelfSigned(t *testing.T, key crypto.Signer) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
