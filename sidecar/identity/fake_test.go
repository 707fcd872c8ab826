package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/goleak"

	"sallyport/control/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const sandboxURI = "spiffe://sallyport/team/t1/sandbox/s1"

// authority is a control plane's CA.
type authority struct {
	behind time.Duration // its clock, behind the real one
	key    *ecdsa.PrivateKey
	cert   *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	return &authority{key: key, cert: must(x509.ParseCertificate(der))}
}

// issue signs a leaf for uri that lives from now, backdated like the real one.
func (a *authority) issue(public any, uri string, life time.Duration) []byte {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-a.behind - time.Minute), NotAfter: time.Now().Add(life - a.behind),
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if uri != "" {
		template.URIs = []*url.URL{must(url.Parse(uri))}
	}
	return must(x509.CreateCertificate(rand.Reader, template, a.cert, public, a.key))
}

// serverCertificate is a chain that ends in the root, as Enroll needs it.
func (a *authority) serverCertificate(uri string, life time.Duration) tls.Certificate {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	return tls.Certificate{Certificate: [][]byte{a.issue(key.Public(), uri, life), a.cert.Raw}, PrivateKey: key}
}

func (a *authority) joinToken() []byte {
	pin := sha256.Sum256(a.cert.Raw)
	secret := sha256.Sum256([]byte("join"))
	return []byte("sp_join_" + base64.RawURLEncoding.EncodeToString(secret[:]) + "." + base64.RawURLEncoding.EncodeToString(pin[:]) + "\n")
}

// fakeControl answers Enroll and Renew over real mutual TLS.
type fakeControl struct {
	api.UnimplementedSidecarServiceHandler
	ca *authority

	mu       sync.Mutex
	enrolled []*api.EnrollRequest
	renewed  []*api.RenewRequest
	clients  []*x509.Certificate // of each request
	fail     error
}

func (f *fakeControl) certificate(csr []byte, generation uint64, life time.Duration) *api.Certificate {
	request := must(x509.ParseCertificateRequest(csr))
	return &api.Certificate{
		Chain: [][]byte{f.ca.issue(request.PublicKey, sandboxURI, life)}, Roots: [][]byte{f.ca.cert.Raw}, Generation: generation,
	}
}

func (f *fakeControl) Enroll(_ context.Context, r *connect.Request[api.EnrollRequest]) (*connect.Response[api.EnrollResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.enrolled = append(f.enrolled, r.Msg)
	if f.fail != nil {
		return nil, f.fail
	}
	return connect.NewResponse(&api.EnrollResponse{
		Certificate: f.certificate(r.Msg.Csr, 1, time.Hour), Team: "default", Agent: "billing", SandboxId: "s1",
	}), nil
}

func (f *fakeControl) Renew(_ context.Context, r *connect.Request[api.RenewRequest]) (*connect.Response[api.RenewResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.renewed = append(f.renewed, r.Msg)
	if f.fail != nil {
		return nil, f.fail
	}
	return connect.NewResponse(&api.RenewResponse{Certificate: f.certificate(r.Msg.Csr, r.Msg.Generation+1, time.Hour)}), nil
}

// Watch says one thing and then stays silent.
func (f *fakeControl) Watch(ctx context.Context, stream *connect.BidiStream[api.WatchRequest, api.WatchResponse]) error {
	if err := stream.Send(&api.WatchResponse{}); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

func (f *fakeControl) requests() (enrolled, all int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.enrolled), len(f.clients)
}

// serve serves on l with cert until the test ends, and gives the URL.
func (f *fakeControl) serve(t *testing.T, l net.Listener, cert tls.Certificate) string {
	t.Helper()
	return f.serveAs(t, f, l, cert)
}

// serveAs serves what is built upon f.
func (f *fakeControl) serveAs(t *testing.T, all api.SidecarServiceHandler, l net.Listener, cert tls.Certificate) string {
	t.Helper()
	path, handler := api.NewSidecarServiceHandler(all)
	mux := http.NewServeMux()
	mux.Handle(path, handler)
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			f.mu.Lock()
			f.clients = append(f.clients, r.TLS.PeerCertificates[0])
			f.mu.Unlock()
			mux.ServeHTTP(w, r)
		}),
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAnyClientCert, Certificates: []tls.Certificate{cert}},
		ErrorLog:  quiet(),
	}
	done := make(chan struct{})
	go func() { defer close(done); server.ServeTLS(l, "", "") }()
	t.Cleanup(func() { server.Close(); <-done })
	return "https://" + l.Addr().String()
}

// newFakeControl serves a well-behaved control plane.
func newFakeControl(t *testing.T) (*fakeControl, string) {
	t.Helper()
	f := &fakeControl{ca: newAuthority(t)}
	return f, f.serve(t, listen(t), f.ca.serverCertificate(controlID, time.Hour))
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	return must(net.Listen("tcp", "127.0.0.1:0"))
}
