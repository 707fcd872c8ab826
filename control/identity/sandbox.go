package identity

import (
	"crypto/x509"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"sallyport/control"
)

// ParseCSR checks a certificate request and gives its public key, which is all
// that is used of it: names and extensions are ours to write.
func ParseCSR(der []byte) (publicKey any, err error) {
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, control.Errorf(control.CodeInvalid, "the certificate request is not PKCS #10")
	}
	if err := checkKey(csr.PublicKey); err != nil {
		return nil, err
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, control.Errorf(control.CodeInvalid, "the certificate request is not signed with its own key")
	}
	return csr.PublicKey, nil
}

// IssueSandbox gives a certificate, in DER, that says who a sandbox is and
// nothing else: one URI name, client authentication only, for Lifetime.
func (a *Authority) IssueSandbox(s Sandbox, publicKey any) ([]byte, error) {
	if err := checkKey(publicKey); err != nil {
		return nil, err
	}
	id, err := s.url()
	if err != nil {
		return nil, err
	}
	now := a.now()
	return a.set.Load().active.sign(&x509.Certificate{
		URIs:        []*url.URL{id},
		NotBefore:   now.Add(-Backdate),
		NotAfter:    now.Add(Lifetime),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, publicKey)
}

// Verified is a sandbox's certificate that one of the CAs was found to have issued.
type Verified struct {
	Sandbox
	cert  *x509.Certificate
	roots *roots // that it was verified by
}

// VerifySandbox says which sandbox a certificate is of, if one of the CAs issued it
// and it is valid now or, with grace, expired no longer ago than that.
func (a *Authority) VerifySandbox(cert *x509.Certificate, grace time.Duration) (Sandbox, error) {
	v, err := a.Verify(cert, grace)
	return v.Sandbox, err
}

// Verify is VerifySandbox, for those who will ask again.
func (a *Authority) Verify(cert *x509.Certificate, grace time.Duration) (Verified, error) {
	refused := func(why string) (Verified, error) {
		return Verified{}, control.Errorf(control.CodeUnauthorized, "the client certificate %s", why)
	}
	now := a.now()
	if now.After(cert.NotAfter) && now.Before(cert.NotAfter.Add(grace)) {
		now = cert.NotAfter
	}
	if now.After(cert.NotAfter) {
		return refused("has expired")
	}
	roots := a.set.Load()
	bundle := x509bundle.New(trustDomain())
	for _, c := range roots.all() {
		bundle.AddX509Authority(c.cert)
	}
	id, _, err := x509svid.Verify([]*x509.Certificate{cert}, bundle, x509svid.WithTime(now))
	switch {
	case err != nil:
		return refused("is not one that this control plane issued")
	case !slices.Equal(cert.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}):
		return refused("is not for client authentication")
	}
	s, ok := parseSandbox(id)
	if !ok {
		return refused("is not of a sandbox")
	}
	return Verified{s, cert, roots}, nil
}

// VerifyAgain is VerifySandbox of a certificate that was verified before. Its signature
// is checked anew once the CAs are others: that is nearly all that there is to do.
func (a *Authority) VerifyAgain(v Verified, grace time.Duration) (Sandbox, error) {
	now := a.now()
	if v.roots == a.set.Load() && !now.Before(v.cert.NotBefore) && !now.After(v.cert.NotAfter) {
		return v.Sandbox, nil
	}
	return a.VerifySandbox(v.cert, grace)
}

func parseSandbox(id spiffeid.ID) (Sandbox, bool) {
	parts := strings.Split(id.Path(), "/") // "", team, TEAM, sandbox, ID
	if len(parts) != 5 || parts[1] != "team" || parts[3] != "sandbox" {
		return Sandbox{}, false
	}
	return Sandbox{Team: parts[2], ID: parts[4]}, true
}

// VerifySelfSigned checks the certificate of a sidecar that has no identity
// yet: signed by its own key, which the caller compares with the CSR's.
func VerifySelfSigned(cert *x509.Certificate) error {
	refused := control.Errorf(control.CodeUnauthorized, "the client certificate is not self-signed")
	if checkKey(cert.PublicKey) != nil {
		return refused
	}
	if cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) != nil {
		return refused
	}
	return nil
}
