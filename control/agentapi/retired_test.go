package agentapi_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"math/big"
	"net/http"
	"testing"
	"time"

	"connectrpc.com/connect"

	"sallyport/control"
	"sallyport/control/api"
	"sallyport/control/controltest"
)

// forge is what a thief of the control CA's key makes of it: a client as the sandbox
// that s is, by a key, or nil for one of the thief's own, and for as long as he likes.
func forge(t *testing.T, s *controltest.Sidecar, caKey any, key *ecdsa.PrivateKey) api.SidecarServiceClient {
	t.Helper()
	leaf, err := x509.ParseCertificate(s.Certificate.GetChain()[0])
	if err != nil {
		t.Fatal(err)
	}
	if key == nil {
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(7), URIs: leaf.URIs, NotBefore: leaf.NotBefore, NotAfter: time.Now().AddDate(5, 0, 0),
		KeyUsage: leaf.KeyUsage, ExtKeyUsage: leaf.ExtKeyUsage, BasicConstraintsValid: true,
	}, plane.CACertificate(t), key.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	var h2 http.Protocols
	h2.SetHTTP2(true)
	transport := &http.Transport{Protocols: &h2, TLSClientConfig: &tls.Config{
		InsecureSkipVerify: true, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return api.NewSidecarServiceClient(&http.Client{Transport: transport}, plane.SidecarURL)
}

// caKey is the control CA's key, as somebody has it who had the database and its key.
func caKey(t *testing.T) any {
	t.Helper()
	stored, err := plane.Store.GetMeta(t.Context(), "control-ca")
	if err != nil {
		t.Fatal(err)
	}
	var sealed struct {
		Certificate, Key []byte
		KEK              string
	}
	if err := json.Unmarshal(stored, &sealed); err != nil {
		t.Fatal(err)
	}
	der, err := plane.KEK.Unwrap(t.Context(), sealed.KEK, sealed.Key, append([]byte("sallyport control CA key v1\x00"), sealed.Certificate...))
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// asThief opens the stream as a sandbox of that certificate does, and asks for material.
func asThief(t *testing.T, thief api.SidecarServiceClient, credential string) (opened, fetched error) {
	t.Helper()
	w := thief.Watch(t.Context())
	w.RequestHeader().Set(api.HeaderOpening, "7.1")
	_ = w.Send(&api.WatchRequest{})
	_, opened = w.Receive()
	r := connect.NewRequest(&api.FetchRequest{CredentialId: credential, Version: 1, Host: "api.stripe.com"})
	r.Header().Set(api.HeaderSession, w.ResponseHeader().Get(api.HeaderSession))
	_, fetched = thief.Fetch(t.Context(), r)
	return opened, fetched
}

// TestForgedByAStolenCA: whoever has the CA's key can have a certificate of any sandbox,
// but not by the key that it enrolled with.
func TestForgedByAStolenCA(t *testing.T) {
	team := plane.NewTeam(t)
	c := team.Setup(t, "sk_live_1")
	s := team.Join(t)
	w, _ := watch(t, s)
	thief := forge(t, s, caKey(t), nil)
	opened, fetched := asThief(t, thief, c.ID)
	code(t, opened, connect.CodePermissionDenied)
	code(t, fetched, connect.CodePermissionDenied)
	_, err := thief.Renew(t.Context(), connect.NewRequest(&api.RenewRequest{Generation: 1}))
	code(t, err, connect.CodePermissionDenied)
	if n := events(t, team, "sandbox.alert", s.ID); n != 1 {
		t.Errorf("%d alerts of three attempts in a minute", n)
	}
	// Whom he posed as goes on.
	state(t, team, s, control.SandboxEnrolled)
	team.Must(t, "POST", "vaults/v/credentials/stripe/rotate", map[string]any{"secret": "sk_live_2"}, nil)
	if m := w.next(); m.GetBindings()[0].GetVersion() != 2 {
		t.Errorf("the sandbox's stream: %v", m)
	}
}

// TestRetiredCAEndsStreams: a stream that was opened by a certificate of a CA that was
// replaced after a theft, made to be good for years, and by the sandbox's own key.
func TestRetiredCAEndsStreams(t *testing.T) {
	team := plane.NewTeam(t)
	c := team.Setup(t, "sk_live_1")
	s := team.Join(t)
	thief := forge(t, s, caKey(t), s.Key)
	w := thief.Watch(t.Context())
	w.RequestHeader().Set(api.HeaderOpening, "7.1")
	_ = w.Send(&api.WatchRequest{})
	if _, err := w.Receive(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{control.CAStage, control.CAActivate, control.CARetire} {
		plane.Advance(t, 2*time.Minute)
		plane.Do(t, plane.Owner, "POST", "/v1/ca/rotate", map[string]any{"step": name, "force": true}).Into(t, 200, nil)
	}
	team.Must(t, "POST", "vaults/v/credentials/stripe/rotate", map[string]any{"secret": "sk_live_2"}, nil)
	m, err := w.Receive()
	if err == nil {
		t.Errorf("the thief was told of version %d", m.GetBindings()[0].GetVersion())
	}
	code(t, err, connect.CodeUnauthenticated)
	if _, fetched := asThief(t, thief, c.ID); fetched == nil {
		t.Error("the thief was given material")
	}
}
