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
	"net"
	"net/http"
	"sync"
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
	url         string
	stream      *opener
	connection  net.Conn // the newest
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
	s := &Sidecar{Key: key, SealKey: sealKey, plane: p, url: p.SidecarURL, CSR: CSR(t, key), stream: &opener{opening: api.Opening{Worker: 1}}}
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
	s.connect(t)
}

// Move makes Client talk to another replica.
func (s *Sidecar) Move(t *testing.T, url string) {
	t.Helper()
	s.url = url
	s.connect(t)
}

// connect makes Client anew.
func (s *Sidecar) connect(t *testing.T) {
	t.Helper()
	transport := s.plane.transport(t, tls.Certificate{Certificate: s.Certificate.GetChain(), PrivateKey: s.Key})
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		s.connection = c
		return c, err
	}
	s.Client = api.NewSidecarServiceClient(&http.Client{Transport: &holder{transport, s.stream, s.url}}, s.url)
}

// Break breaks off the connection that the last call has made or used.
func (s *Sidecar) Break(t *testing.T) {
	t.Helper()
	if err := s.connection.Close(); err != nil {
		t.Fatal(err)
	}
}

// Copy is what a thief has who copied all that s knows, at once.
func (s *Sidecar) Copy(t *testing.T) *Sidecar {
	t.Helper()
	stolen := *s
	s.stream.mu.Lock()
	stolen.stream = &opener{opening: s.stream.opening, session: s.stream.session}
	s.stream.mu.Unlock()
	stolen.connect(t)
	return &stolen
}

// Forget makes the next call that needs a stream open one.
func (s *Sidecar) Forget() { s.stream.keep("") }

// Restart makes s the worker after the one that it was.
func (s *Sidecar) Restart(t *testing.T) {
	t.Helper()
	s.stream = &opener{opening: api.Opening{Worker: s.stream.opening.Worker + 1}}
	s.connect(t)
}

// opener is what a sidecar knows of its streams.
type opener struct {
	turn    sync.Mutex // held while a call opens a stream that it needs
	mu      sync.Mutex
	opening api.Opening
	session string
}

func (o *opener) next() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.opening.Stream++
	return o.opening.String()
}

func (o *opener) newest() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.session
}

func (o *opener) keep(session string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.session = session
}

// holder opens a stream before the first call that needs one, and lets it end.
type holder struct {
	http.RoundTripper
	stream *opener
	url    string
}

func (h *holder) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	switch r.URL.Path {
	case api.SidecarServiceWatchProcedure:
		r.Header.Set(api.HeaderOpening, h.stream.next())
		response, err := h.RoundTripper.RoundTrip(r)
		if err == nil && response.Header.Get(api.HeaderSession) != "" {
			h.stream.keep(response.Header.Get(api.HeaderSession))
		}
		return response, err
	case api.SidecarServiceFetchProcedure, api.SidecarServiceCaptureProcedure, api.SidecarServiceReportProcedure,
		api.SidecarServiceAllotProcedure, api.SidecarServiceApproveProcedure:
		h.stream.turn.Lock()
		if h.stream.newest() == "" {
			h.open(r.Context())
		}
		h.stream.turn.Unlock()
		r.Header.Set(api.HeaderSession, h.stream.newest())
	}
	return h.RoundTripper.RoundTrip(r)
}

// open leaves it to the call that follows to say why it could not.
func (h *holder) open(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := api.NewSidecarServiceClient(&http.Client{Transport: h}, h.url).Watch(ctx)
	if w.Send(&api.WatchRequest{}) == nil {
		w.Receive()
	}
	w.CloseRequest()
	w.CloseResponse()
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
	return api.NewSidecarServiceClient(&http.Client{Transport: p.transport(t, certificates...)}, p.SidecarURL)
}

func (p *Plane) transport(t *testing.T, certificates ...tls.Certificate) *http.Transport {
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
	return transport
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

// WithSession is a client with the identity of s that says it has a session.
func (p *Plane) WithSession(t *testing.T, s *Sidecar, session string) api.SidecarServiceClient {
	t.Helper()
	transport := p.transport(t, tls.Certificate{Certificate: s.Certificate.GetChain(), PrivateKey: s.Key})
	return api.NewSidecarServiceClient(&http.Client{Transport: &claimant{transport, session}}, s.url)
}

type claimant struct {
	http.RoundTripper
	session string
}

func (c *claimant) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(api.HeaderSession, c.session)
	return c.RoundTripper.RoundTrip(r)
}
