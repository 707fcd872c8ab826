package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"sallyport/control"
)

type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func testAuthority(t *testing.T) (*Authority, *clock) {
	t.Helper()
	c := &clock{time.Now().Truncate(time.Second)}
	cert, key, err := generateAuthority(c.t)
	if err != nil {
		t.Fatal(err)
	}
	made, err := newCA(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	a := &Authority{now: c.now}
	a.set.Store(&roots{active: made})
	return a, c
}

func p256(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func parse(t *testing.T, der []byte, err error) *x509.Certificate {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func issue(t *testing.T, a *Authority, s Sandbox) *x509.Certificate {
	t.Helper()
	der, err := a.IssueSandbox(s, p256(t).Public())
	return parse(t, der, err)
}

// The linter's rules for an SVID: X509-SVID of SPIFFE, and THREATS section 3.
func TestSandboxCertificateSaysWhoAndNothingElse(t *testing.T) {
	a, c := testAuthority(t)
	cert := issue(t, a, Sandbox{Team: "t-1", ID: "s-1"})
	switch {
	case len(cert.URIs) != 1 || cert.URIs[0].String() != "spiffe://sallyport/team/t-1/sandbox/s-1":
		t.Errorf("URIs %v", cert.URIs)
	case len(cert.DNSNames)+len(cert.IPAddresses)+len(cert.EmailAddresses) != 0:
		t.Error("it has a name beside the URI")
	case cert.Subject.String() != "":
		t.Errorf("it has a subject %q", cert.Subject)
	case cert.IsCA || !cert.BasicConstraintsValid:
		t.Error("it could be a CA")
	case cert.KeyUsage != x509.KeyUsageDigitalSignature:
		t.Errorf("key usage %v", cert.KeyUsage)
	case len(cert.ExtKeyUsage) != 1 || cert.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth || len(cert.UnknownExtKeyUsage) != 0:
		t.Errorf("extended key usage %v", cert.ExtKeyUsage)
	case !cert.NotBefore.Equal(c.t.Add(-Backdate)) || !cert.NotAfter.Equal(c.t.Add(Lifetime)):
		t.Errorf("valid from %v to %v at %v", cert.NotBefore, cert.NotAfter, c.t)
	case cert.SerialNumber.BitLen() < 64 || cert.SerialNumber.Sign() <= 0:
		t.Errorf("serial number %v", cert.SerialNumber)
	case len(cert.AuthorityKeyId) == 0:
		t.Error("no authority key identifier")
	}
	for _, e := range cert.Extensions {
		if e.Id.String() == "2.5.29.17" && !e.Critical { // RFC 5280 section 4.2.1.6
			t.Error("the names are not critical although the subject is empty")
		}
	}
	if other := issue(t, a, Sandbox{Team: "t-1", ID: "s-1"}); other.SerialNumber.Cmp(cert.SerialNumber) == 0 {
		t.Error("a serial number came twice")
	}
}

func TestVerifySandbox(t *testing.T) {
	a, c := testAuthority(t)
	foreign, _ := testAuthority(t)
	want := Sandbox{Team: "t", ID: "s"}
	key := p256(t)
	der, err := a.IssueSandbox(want, key.Public())
	good := parse(t, der, err)
	for _, tc := range []struct {
		name  string
		cert  *x509.Certificate
		after time.Duration
		grace time.Duration
		ok    bool
	}{
		{"a good one", good, 0, 0, true},
		{"a clock five minutes behind", good, -Backdate, 0, true},
		{"a clock six minutes behind", good, -6 * time.Minute, 0, false},
		{"one second before expiry", good, Lifetime - time.Second, 0, true},
		{"expired", good, Lifetime + time.Second, 0, false},
		{"expired, within the grace", good, Lifetime + RenewalGrace - time.Second, RenewalGrace, true},
		{"expired, after the grace", good, Lifetime + RenewalGrace + time.Second, RenewalGrace, false},
		{"of another CA", issue(t, foreign, want), 0, 0, false},
		{"the CA itself", a.set.Load().active.cert, 0, 0, false},
		{"self-signed with the right name", forged(t, nil, "spiffe://sallyport/team/t/sandbox/s"), 0, 0, false},
		{"two names", forged(t, a, "spiffe://sallyport/team/t/sandbox/s", "spiffe://sallyport/team/u/sandbox/s"), 0, 0, false},
		{"another trust domain", forged(t, a, "spiffe://evil/team/t/sandbox/s"), 0, 0, false},
		{"a common name only", forged(t, a), 0, 0, false},
		{"the control plane's", serverLeaf(t, a), 0, 0, false},
		{"a longer path", forged(t, a, "spiffe://sallyport/team/t/sandbox/s/x"), 0, 0, false},
		{"another path", forged(t, a, "spiffe://sallyport/control"), 0, 0, false},
		{"signed by a sandbox", signedBy(t, good, key), 0, 0, false},
		{"usable as a server too", forgedUsage(t, a, x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth), 0, 0, false},
		{"no usage", forgedUsage(t, a), 0, 0, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			start := c.t
			defer func() { c.t = start }()
			c.t = c.t.Add(tc.after)
			got, err := a.VerifySandbox(tc.cert, tc.grace)
			if tc.ok && (err != nil || got != want) {
				t.Errorf("%v, %v", got, err)
			}
			if !tc.ok && (control.CodeOf(err) != control.CodeUnauthorized || got != Sandbox{}) {
				t.Errorf("accepted as %v (%v)", got, err)
			}
		})
	}
}

// signedBy is what a sandbox makes that uses its certificate as a CA's.
func signedBy(t *testing.T, parent *x509.Certificate, signer crypto.Signer) *x509.Certificate {
	t.Helper()
	template := *parent
	template.URIs = []*url.URL{{Scheme: "spiffe", Host: "sallyport", Path: "/team/t/sandbox/other"}}
	der, err := x509.CreateCertificate(rand.Reader, &template, parent, p256(t).Public(), signer)
	return parse(t, der, err)
}

func serverLeaf(t *testing.T, a *Authority) *x509.Certificate {
	t.Helper()
	cert, err := a.set.Load().active.issueServer([]string{"localhost"}, a.now())
	if err != nil {
		t.Fatal(err)
	}
	return cert.Leaf
}

func forged(t *testing.T, a *Authority, uris ...string) *x509.Certificate {
	return forge(t, a, uris, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth})
}

func forgedUsage(t *testing.T, a *Authority, usage ...x509.ExtKeyUsage) *x509.Certificate {
	return forge(t, a, []string{"spiffe://sallyport/team/t/sandbox/s"}, usage)
}

// forge signs whatever is asked, with the CA's key or, without one, its own.
func forge(t *testing.T, a *Authority, uris []string, usage []x509.ExtKeyUsage) *x509.Certificate {
	t.Helper()
	key := p256(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "spiffe://sallyport/team/t/sandbox/s"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: usage, BasicConstraintsValid: true,
	}
	for _, s := range uris {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = append(template.URIs, u)
	}
	parent, signer := template, crypto.Signer(key)
	if a != nil {
		parent, signer = a.set.Load().active.cert, a.set.Load().active.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	return parse(t, der, err)
}

func TestCSR(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		key crypto.Signer
		ok  bool
	}{"P-256": {p256(t), true}, "Ed25519": {ed, true}, "RSA": {rsaKey, false}, "P-384": {p384, false}} {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "root"}}, tc.key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseCSR(der); (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
		der[len(der)-1] ^= 1
		if _, err := ParseCSR(der); control.CodeOf(err) != control.CodeInvalid {
			t.Errorf("%s with a broken signature: %v", name, err)
		}
	}
	if _, err := ParseCSR([]byte("junk")); control.CodeOf(err) != control.CodeInvalid {
		t.Errorf("junk: %v", err)
	}
}

func TestSelfSigned(t *testing.T) {
	a, _ := testAuthority(t)
	if err := VerifySelfSigned(forged(t, nil)); err != nil {
		t.Error(err)
	}
	if err := VerifySelfSigned(forged(t, a)); err == nil {
		t.Error("a certificate of another's signing passes as self-signed")
	}
}

func TestServerCertificate(t *testing.T) {
	a, c := testAuthority(t)
	s, err := a.NewServer([]string{"control.test", "127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	first, err := s.GetCertificate(&tls.ClientHelloInfo{})
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(a.PEM())
	for _, name := range []string{"control.test", "127.0.0.1"} {
		if _, err := first.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: pool}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(first.Leaf.URIs) != 1 || first.Leaf.URIs[0].String() != "spiffe://sallyport/control" {
		t.Errorf("URIs %v", first.Leaf.URIs)
	}
	if !first.Leaf.IPAddresses[0].Equal(net.IPv4(127, 0, 0, 1)) {
		t.Errorf("addresses %v", first.Leaf.IPAddresses)
	}
	if again, _ := s.GetCertificate(&tls.ClientHelloInfo{}); again != first {
		t.Error("a valid certificate was replaced")
	}
	c.t = c.t.Add(serverLifetime/2 + time.Minute)
	if again, _ := s.GetCertificate(&tls.ClientHelloInfo{}); again == first {
		t.Error("a certificate past half its life was kept")
	}
	later, _ := s.GetCertificate(&tls.ClientHelloInfo{})
	c.t = c.t.Add(-serverLifetime / 2)
	if again, _ := s.GetCertificate(&tls.ClientHelloInfo{}); again == later {
		t.Error("a certificate of the future was kept after the clock was set back")
	}
}

func TestJoinToken(t *testing.T) {
	a, _ := testAuthority(t)
	token := a.NewJoinToken()
	again, err := ParseJoinToken(token.Reveal())
	if err != nil || again != token {
		t.Fatalf("ParseJoinToken(Reveal()): %v", err)
	}
	if a.NewJoinToken() == token {
		t.Error("a token came twice")
	}
	text := token.Reveal()
	for _, bad := range []string{"", "sp_join_", text[1:], text[:len(text)-1], text + "A", strings.Replace(text, ".", "", 1), text + "\n", "sp_" + text} {
		if _, err := ParseJoinToken(bad); control.CodeOf(err) != control.CodeUnauthorized {
			t.Errorf("a malformed token: %v", err)
		} else if bad != "" && strings.Contains(err.Error(), bad) {
			t.Error("the error shows the token")
		}
	}
	shown := fmt.Sprintf("%v %+v %#v %s %x %v", token, token, token, token, token, struct{ T JoinToken }{token})
	if shown != strings.Repeat("[redacted] ", 5)+"{[redacted]}" {
		t.Errorf("a token shows itself: %s", shown)
	}
}
