package agentapi_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"

	"sallyport/control"
	"sallyport/control/api"
	"sallyport/control/controltest"
	"sallyport/control/identity"
)

func TestRenew(t *testing.T) {
	team := plane.NewTeam(t)
	c := team.Setup(t, "sk_live_1")
	s := team.Join(t)
	for want := uint64(2); want < 5; want++ {
		renewed, err := s.Renew(t.Context(), controltest.CSR(t, s.Key), s.Generation)
		if err != nil {
			t.Fatal(err)
		}
		s.Use(t, renewed)
		if s.Generation != want {
			t.Errorf("generation %d, want %d", s.Generation, want)
		}
		if _, err := s.Fetch(t.Context(), c.ID, 1, "api.stripe.com"); err != nil {
			t.Errorf("with the renewed certificate: %v", err)
		}
	}
}

// The answer was lost: the same request again is not a copy of the identity.
func TestRenewAgainIsTheSame(t *testing.T) {
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_1")
	s := team.Join(t)
	csr := controltest.CSR(t, s.Key)
	for range 3 {
		c, err := s.Renew(t.Context(), csr, 1)
		if err != nil || c.GetGeneration() != 2 {
			t.Fatalf("generation %d, %v", c.GetGeneration(), err)
		}
	}
	state(t, team, s, control.SandboxEnrolled)
}

func TestCopiedIdentityLocks(t *testing.T) {
	team := plane.NewTeam(t)
	c := team.Setup(t, "sk_live_1")
	s := team.Join(t)
	w, _ := watch(t, s)
	stolen := *s // key, certificate and generation
	if _, err := stolen.Renew(t.Context(), controltest.CSR(t, s.Key), 1); err != nil {
		t.Fatal(err)
	}
	_, err := s.Renew(t.Context(), controltest.CSR(t, s.Key), 1)
	code(t, err, connect.CodePermissionDenied)
	state(t, team, s, control.SandboxLocked)
	code(t, w.ends(), connect.CodePermissionDenied)
	_, err = stolen.Fetch(t.Context(), c.ID, 1, "api.stripe.com")
	code(t, err, connect.CodePermissionDenied)
	_, err = stolen.Renew(t.Context(), controltest.CSR(t, s.Key), 2)
	code(t, err, connect.CodePermissionDenied)
}

// Once a sidecar has said that the answer has arrived, its request is of no use to whoever
// has a copy of it.
func TestConfirmedRenewalIsGivenToNobody(t *testing.T) {
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_1")
	s := team.Join(t)
	stolen, csr := *s, controltest.CSR(t, s.Key)
	renewed, err := s.Renew(t.Context(), csr, 1)
	if err != nil {
		t.Fatal(err)
	}
	s.Use(t, renewed)
	other := team.Join(t)
	for _, who := range []*controltest.Sidecar{other, s} { // another sandbox's word is about itself
		if _, err := who.Client.Renew(t.Context(), connect.NewRequest(&api.RenewRequest{Generation: 2})); err != nil {
			t.Fatal(err)
		}
	}
	conn, err := pgx.Connect(t.Context(), plane.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), `update sandboxes set renewed_at = renewed_at - interval '1 hour' where id = $1`, s.ID); err != nil {
		t.Fatal(err)
	}
	_, err = stolen.Renew(t.Context(), csr, 1)
	code(t, err, connect.CodePermissionDenied)
	state(t, team, s, control.SandboxLocked)
	state(t, team, other, control.SandboxEnrolled)
}

func TestRenewKeepsTheKey(t *testing.T) {
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_1")
	s := team.Join(t)
	_, err := s.Renew(t.Context(), plane.NewSidecar(t).CSR, 1)
	code(t, err, connect.CodeInvalidArgument)
	state(t, team, s, control.SandboxEnrolled)
	if _, err := s.Renew(t.Context(), controltest.CSR(t, s.Key), 1); err != nil {
		t.Errorf("after a refused request: %v", err)
	}
}

func state(t *testing.T, team *controltest.Team, s *controltest.Sidecar, want control.SandboxState) {
	t.Helper()
	var sandbox control.Sandbox
	team.Must(t, "GET", "sandboxes/"+s.ID, nil, &sandbox)
	if sandbox.State != want {
		t.Errorf("the sandbox is %s, want %s", sandbox.State, want)
	}
}

func TestExpiredCertificate(t *testing.T) {
	team := plane.NewTeam(t)
	c := team.Setup(t, "sk_live_1")
	s, late := team.Join(t), team.Join(t)
	w, _ := watch(t, s)

	plane.Advance(t, identity.Lifetime+time.Minute)
	// On the connection that is open already, and on a new one.
	_, err := s.Fetch(t.Context(), c.ID, 1, "api.stripe.com")
	code(t, err, connect.CodeUnauthenticated)
	s.Use(t, s.Certificate)
	_, err = s.Fetch(t.Context(), c.ID, 1, "api.stripe.com")
	code(t, err, connect.CodeUnauthenticated)
	w.cancel()

	renewed, err := s.Renew(t.Context(), controltest.CSR(t, s.Key), 1)
	if err != nil {
		t.Fatalf("within a day of its expiry: %v", err)
	}
	s.Use(t, renewed)
	if _, err := s.Fetch(t.Context(), c.ID, 1, "api.stripe.com"); err != nil {
		t.Errorf("with the renewed certificate: %v", err)
	}

	plane.Advance(t, identity.RenewalGrace)
	late.Use(t, late.Certificate)
	if _, err := late.Renew(t.Context(), controltest.CSR(t, late.Key), 1); err == nil {
		t.Error("a certificate renews more than a day after its expiry")
	}
}

// Certificates that no control plane of ours made.
func TestForeignCertificates(t *testing.T) {
	team := plane.NewTeam(t)
	c := team.Setup(t, "sk_live_1")
	s := team.Join(t)
	leaf, err := x509.ParseCertificate(s.Certificate.GetChain()[0])
	if err != nil {
		t.Fatal(err)
	}
	foreignKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	foreignCA := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: plane.CACertificate(t).Subject, NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, SubjectKeyId: plane.CACertificate(t).SubjectKeyId,
	}
	for name, parent := range map[string]*x509.Certificate{"signed by another CA of the same name": foreignCA, "self-signed with a sandbox's name": leaf} {
		signer := foreignKey
		if parent == leaf {
			signer = s.Key
		}
		der, err := x509.CreateCertificate(rand.Reader, leaf, parent, s.Key.Public(), signer)
		if err != nil {
			t.Fatal(err)
		}
		client := plane.Client(t, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: s.Key})
		if _, err := client.Fetch(t.Context(), connect.NewRequest(&api.FetchRequest{CredentialId: c.ID, Version: 1, Host: "api.stripe.com"})); err == nil {
			t.Errorf("%s: material was handed out", name)
		}
		if _, err := client.Renew(t.Context(), connect.NewRequest(&api.RenewRequest{Csr: s.CSR, Generation: 1})); err == nil {
			t.Errorf("%s: renewed", name)
		}
	}
}
