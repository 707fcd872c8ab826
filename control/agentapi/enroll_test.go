package agentapi_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"sallyport/control"
	"sallyport/control/api"
	"sallyport/control/controltest"
)

func TestEnrol(t *testing.T) {
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_1")
	id, token := team.NewSandbox(t)
	s := plane.NewSidecar(t)
	if err := s.Enroll(t, token); err != nil {
		t.Fatal(err)
	}
	if s.ID != id || s.Generation != 1 {
		t.Errorf("enrolled as %s generation %d, want %s generation 1", s.ID, s.Generation, id)
	}
	var sandbox control.Sandbox
	team.Must(t, "GET", "sandboxes/"+id, nil, &sandbox)
	if sandbox.State != control.SandboxEnrolled || sandbox.Version != "test" || sandbox.EnrolledAt == nil {
		t.Errorf("the sandbox is %+v", sandbox)
	}
}

// The token carries the fingerprint of the CA that the server shows, so that a
// sidecar can refuse any other server.
func TestJoinTokenPinsTheCA(t *testing.T) {
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_1")
	_, token := team.NewSandbox(t)
	_, pin, _ := strings.Cut(token, ".")
	fingerprint, err := base64.RawURLEncoding.DecodeString(pin)
	if err != nil {
		t.Fatal(err)
	}
	self := controltest.SelfSigned(t, plane.NewSidecar(t).Key)
	conn, err := tls.Dial("tcp", strings.TrimPrefix(plane.SidecarURL, "https://"), &tls.Config{
		InsecureSkipVerify: true, Certificates: []tls.Certificate{self},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if v := conn.ConnectionState().Version; v != tls.VersionTLS13 {
		t.Errorf("TLS version %x", v)
	}
	if !slices.ContainsFunc(conn.ConnectionState().PeerCertificates, func(c *x509.Certificate) bool {
		hash := sha256.Sum256(c.Raw)
		return string(hash[:]) == string(fingerprint) && c.IsCA
	}) {
		t.Error("the server does not show the CA that the token names")
	}
	if _, err := tls.Dial("tcp", strings.TrimPrefix(plane.SidecarURL, "https://"), &tls.Config{
		InsecureSkipVerify: true, Certificates: []tls.Certificate{self}, MaxVersion: tls.VersionTLS12,
	}); err == nil {
		t.Error("the server speaks TLS 1.2")
	}
}

func TestSecondUseOfJoinTokenLocks(t *testing.T) {
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_1")
	id, token := team.NewSandbox(t)
	first, second := plane.NewSidecar(t), plane.NewSidecar(t)
	if err := first.Enroll(t, token); err != nil {
		t.Fatal(err)
	}
	w, _ := watch(t, first)
	code(t, second.Enroll(t, token), connect.CodeUnauthenticated)
	var sandbox control.Sandbox
	team.Must(t, "GET", "sandboxes/"+id, nil, &sandbox)
	if sandbox.State != control.SandboxLocked {
		t.Errorf("the sandbox is %s", sandbox.State)
	}
	code(t, w.ends(), connect.CodePermissionDenied)
	if !slices.ContainsFunc(team.Events(t), func(e control.Event) bool { return e.Sandbox == id && strings.Contains(e.Kind, "lock") }) {
		t.Errorf("the second use is not in the audit log: %+v", team.Events(t))
	}
}

// A mistake of the caller does not cost the token.
func TestBadEnrolmentKeepsTheToken(t *testing.T) {
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_1")
	_, token := team.NewSandbox(t)
	s := plane.NewSidecar(t)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	broken := slices.Clone(s.CSR)
	broken[len(broken)-1] ^= 1
	seal := s.SealKey.PublicKey().Bytes()
	for name, tc := range map[string]struct {
		request *api.EnrollRequest
		code    connect.Code
	}{
		"the CSR of another key":  {&api.EnrollRequest{JoinToken: token, Csr: plane.NewSidecar(t).CSR, SealKey: seal}, connect.CodeInvalidArgument},
		"a CSR of a P-384 key":    {&api.EnrollRequest{JoinToken: token, Csr: controltest.CSR(t, p384), SealKey: seal}, connect.CodeInvalidArgument},
		"a CSR signed by nobody":  {&api.EnrollRequest{JoinToken: token, Csr: broken, SealKey: seal}, connect.CodeInvalidArgument},
		"no CSR":                  {&api.EnrollRequest{JoinToken: token, SealKey: seal}, connect.CodeInvalidArgument},
		"no seal key":             {&api.EnrollRequest{JoinToken: token, Csr: s.CSR}, connect.CodeInvalidArgument},
		"a malformed token":       {&api.EnrollRequest{JoinToken: token[:40], Csr: s.CSR, SealKey: seal}, connect.CodeUnauthenticated},
		"a token that is not one": {&api.EnrollRequest{JoinToken: plane.Authority.NewJoinToken().Reveal(), Csr: s.CSR, SealKey: seal}, connect.CodeUnauthenticated},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := plane.Client(t, controltest.SelfSigned(t, s.Key)).Enroll(t.Context(), connect.NewRequest(tc.request))
			code(t, err, tc.code)
			if err != nil && strings.Contains(err.Error(), token[8:40]) {
				t.Error("the error shows the token")
			}
		})
	}
	if err := s.Enroll(t, token); err != nil {
		t.Errorf("the token is used up: %v", err)
	}
}

func TestWhoMayCall(t *testing.T) {
	team := plane.NewTeam(t)
	c := team.Setup(t, "sk_live_1")
	_, token := team.NewSandbox(t)
	enrolled := team.Join(t)
	foreignKey := plane.NewSidecar(t)
	newcomer := plane.NewSidecar(t)

	fetch := func(client api.SidecarServiceClient) error {
		_, err := client.Fetch(t.Context(), connect.NewRequest(&api.FetchRequest{CredentialId: c.ID, Version: 1, Host: "api.stripe.com"}))
		return err
	}
	if err := fetch(enrolled.Client); err != nil {
		t.Errorf("an enrolled sandbox: %v", err)
	}
	code(t, fetch(newcomer.Client), connect.CodeUnauthenticated)
	_, err := newcomer.Client.Renew(t.Context(), connect.NewRequest(&api.RenewRequest{Csr: newcomer.CSR, Generation: 1}))
	code(t, err, connect.CodeUnauthenticated)
	_, err = newcomer.Client.Report(t.Context(), connect.NewRequest(&api.ReportRequest{}))
	code(t, err, connect.CodeUnauthenticated)
	w := newcomer.Client.Watch(t.Context())
	_ = w.Send(&api.WatchRequest{})
	_, err = w.Receive()
	code(t, err, connect.CodeUnauthenticated)
	// An identity can't be traded for another one.
	_, err = enrolled.Client.Enroll(t.Context(), connect.NewRequest(&api.EnrollRequest{
		JoinToken: token, Csr: enrolled.CSR, SealKey: enrolled.SealKey.PublicKey().Bytes(),
	}))
	code(t, err, connect.CodeUnauthenticated)
	if err := fetch(plane.Client(t)); err == nil {
		t.Error("no certificate at all is enough")
	}
	// A certificate of ours without its key.
	chain := enrolledChain(t, enrolled)
	if err := fetch(plane.Client(t, tls.Certificate{Certificate: chain, PrivateKey: foreignKey.Key})); err == nil {
		t.Error("a certificate works without its key")
	}
	response, err := http.Get(strings.Replace(plane.SidecarURL, "https", "http", 1))
	if err == nil {
		response.Body.Close()
		if response.StatusCode == http.StatusOK {
			t.Error("plain HTTP is answered")
		}
	}
}

func enrolledChain(t *testing.T, s *controltest.Sidecar) [][]byte {
	t.Helper()
	c, err := s.Renew(t.Context(), s.CSR, s.Generation)
	if err != nil {
		t.Fatal(err)
	}
	return c.GetChain()
}

// Guessing takes a handshake for each few tokens, and keeps nobody else from enrolling.
func TestGuessesAreLimited(t *testing.T) {
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_1")
	_, token := team.NewSandbox(t)
	guesser := plane.NewSidecar(t)
	for i := range 20 {
		want := connect.CodeUnauthenticated
		if i >= 3 {
			want = connect.CodeResourceExhausted
		}
		guess := plane.Authority.NewJoinToken().Reveal()
		if i == 19 {
			guess = token // even the right one
		}
		code(t, guesser.Enroll(t, guess), want)
	}
	if err := plane.NewSidecar(t).Enroll(t, token); err != nil {
		t.Errorf("on another connection: %v", err)
	}
}
