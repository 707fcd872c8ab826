package agentapi_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"connectrpc.com/connect"

	"sallyport/control"
	"sallyport/control/api"
	"sallyport/control/controltest"
	"sallyport/control/identity"
	sidecar "sallyport/sidecar/identity"
)

// trusting is a client of s that trusts only roots, and says so as the real sidecar does.
func trusting(t *testing.T, s *controltest.Sidecar, chain [][]byte, roots ...[]byte) api.SidecarServiceClient {
	t.Helper()
	pool := x509.NewCertPool()
	protocols := []string{"h2"}
	for _, der := range roots {
		root, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		pool.AddCert(root)
		protocols = append(protocols, api.TrustedBy(sha256.Sum256(der)))
	}
	var h2 http.Protocols
	h2.SetHTTP2(true)
	transport := &http.Transport{Protocols: &h2, TLSClientConfig: &tls.Config{
		RootCAs: pool, NextProtos: protocols, Certificates: []tls.Certificate{{Certificate: chain, PrivateKey: s.Key}},
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return api.NewSidecarServiceClient(&http.Client{Transport: transport}, plane.SidecarURL)
}

// enrolReal is what a real sidecar does.
func enrolReal(t *testing.T, token string) *sidecar.Identity {
	t.Helper()
	i, err := sidecar.Enroll(t.Context(), plane.SidecarURL, []byte(token), "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(i.Close)
	return i
}

// step takes the next step of the succession.
func step(t *testing.T, name string) control.CAStatus {
	t.Helper()
	var status control.CAStatus
	plane.Do(t, plane.Owner, "GET", "/v1/ca", nil).Into(t, 200, &status)
	if status.Step != name {
		t.Fatalf("the next step is %s, not %s", status.Step, name)
	}
	plane.Do(t, plane.Owner, "POST", "/v1/ca/rotate", map[string]any{"step": name}).Into(t, 200, &status)
	return status
}

// TestSuccession replaces the CA under sidecars that are connected and one that is away.
func TestSuccession(t *testing.T) {
	team := plane.NewTeam(t)
	c := team.Setup(t, "sk_live_1")
	connected, away := team.Join(t), team.Join(t)
	old := plane.Authority.Certificate()
	w, _ := watch(t, connected)
	_, first := team.NewSandbox(t)
	real := enrolReal(t, first)
	_, early := team.NewSandbox(t)

	step(t, control.CAStage)
	if !bytes.Equal(plane.Authority.Certificate(), old) || len(plane.Authority.Roots()) != 2 {
		t.Fatal("a staged root issues already, or is not handed out")
	}
	refusedStep(t, "activate", true) // not even by force, before every replica has it
	plane.Advance(t, 2*time.Minute)
	refusedStep(t, "activate", false)
	refusedStep(t, "retire", true)

	// Every connected sidecar renews, and gets both.
	renewed, err := connected.Renew(t.Context(), controltest.CSR(t, connected.Key), connected.Generation)
	if err != nil || len(renewed.GetRoots()) != 2 {
		t.Fatalf("renewed with %d roots, %v", len(renewed.GetRoots()), err)
	}
	connected.Use(t, renewed)
	plane.Do(t, plane.Owner, "POST", "/v1/ca/rotate", map[string]any{"step": "activate", "force": true}).Into(t, 200, nil)
	fresh := plane.Authority.Certificate()
	if bytes.Equal(fresh, old) {
		t.Fatal("the new root does not issue")
	}
	team.Must(t, "POST", "vaults/v/credentials/stripe/rotate", map[string]any{"secret": "sk_live_2"}, nil)
	if m, err := w.receive(); err != nil || m.GetBindings()[0].GetVersion() != 2 {
		t.Fatalf("the stream of before: %v, %v", m, err)
	}

	// Under either root, and with a token of before.
	for name, roots := range map[string][][]byte{"the old root": {old}, "both": renewed.GetRoots(), "the new root": {fresh}} {
		if _, err := trusting(t, connected, renewed.GetChain(), roots...).Renew(t.Context(), connect.NewRequest(&api.RenewRequest{})); err != nil { // which confirms
			t.Errorf("trusting %s: %v", name, err)
		}
	}
	enrolReal(t, early)
	// A real sidecar that knows the old root alone connects anew.
	real.Close()
	stream := real.Client().Watch(t.Context())
	defer stream.CloseRequest()
	if err := stream.Send(&api.WatchRequest{}); err != nil {
		t.Fatal(err)
	}
	if m, err := stream.Receive(); err != nil || len(m.GetBindings()) != 1 {
		t.Errorf("a real sidecar: %v, %v", m, err)
	}

	// Who was away comes back late, knowing the old root alone.
	plane.Advance(t, identity.Lifetime+time.Hour)
	response, err := trusting(t, away, away.Certificate.GetChain(), old).Renew(t.Context(), connect.NewRequest(&api.RenewRequest{Csr: away.CSR, Generation: 1}))
	if err != nil {
		t.Fatalf("who was away: %v", err)
	}
	issuedBy(t, response.Msg.GetCertificate(), fresh)
	away.Use(t, response.Msg.GetCertificate())
	if _, err := away.Fetch(t.Context(), c.ID, 2, "api.stripe.com"); err != nil {
		t.Errorf("who was away fetches: %v", err)
	}
	refusedStep(t, "retire", false)

	plane.Advance(t, identity.RenewalGrace)
	step(t, "retire")
	if roots := plane.Authority.Roots(); len(roots) != 1 || !bytes.Equal(roots[0], fresh) {
		t.Error("the old root is still there")
	}
	if _, err := trusting(t, away, renewed.GetChain(), old).Renew(t.Context(), connect.NewRequest(&api.RenewRequest{})); err == nil {
		t.Error("the old root is still shown")
	}
	// Another replica, and a later start, know the same.
	again, err := identity.Load(t.Context(), plane.Store, plane.KEK, time.Now)
	if err != nil || !bytes.Equal(again.Certificate(), fresh) {
		t.Errorf("loaded another CA, %v", err)
	}
}

func refusedStep(t *testing.T, name string, force bool) {
	t.Helper()
	plane.Do(t, plane.Owner, "POST", "/v1/ca/rotate", map[string]any{"step": name, "force": force}).Into(t, 409, nil)
}

func issuedBy(t *testing.T, c *api.Certificate, root []byte) {
	t.Helper()
	leaf, err := x509.ParseCertificate(c.GetChain()[0])
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := x509.ParseCertificate(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := leaf.CheckSignatureFrom(issuer); err != nil {
		t.Error(err)
	}
}

// A replica that did not take a step hears of it, and two that take one at once agree.
func TestSuccessionAcrossReplicas(t *testing.T) {
	other, err := identity.Load(t.Context(), plane.Store, plane.KEK, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	replicas := []*identity.Succession{plane.Succession, identity.NewSuccession(other, plane.Store, plane.KEK, log)}
	done := make(chan error)
	for _, s := range replicas {
		go func() {
			_, err := s.Take(t.Context(), control.CAStage, false, control.Event{Kind: "ca.stage", Actor: "test"})
			done <- err
		}()
	}
	first, second := <-done, <-done
	if err := errors.Join(first, second); control.CodeOf(err) != control.CodeConflict || first != nil && second != nil {
		t.Errorf("%v and %v", first, second)
	}
	for _, s := range replicas {
		if err := s.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if roots := other.Roots(); len(roots) != 2 || !bytes.Equal(roots[1], plane.Authority.Roots()[1]) {
		t.Error("the replicas have staged two roots")
	}
	// To the end, for the tests that follow.
	plane.Advance(t, 26*time.Hour)
	step(t, control.CAActivate)
	plane.Advance(t, 26*time.Hour)
	step(t, control.CARetire)
}
