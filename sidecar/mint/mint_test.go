package mint_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"sallyport/sidecar/mint"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLeafServesItsNameOnly(t *testing.T) {
	authority := newAuthority(t)
	leaf := mustLeaf(t, authority, "api.stripe.com")
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority.CertificatePEM()) {
		t.Fatal("the authority's certificate is no PEM")
	}
	if _, err := leaf.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "api.stripe.com"}); err != nil {
		t.Error(err)
	}
	if _, err := leaf.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "stripe.com"}); err == nil {
		t.Error("the leaf serves another name")
	}
	if leaf.Leaf.IsCA || len(leaf.Leaf.DNSNames) != 1 {
		t.Errorf("leaf: CA %v, names %v", leaf.Leaf.IsCA, leaf.Leaf.DNSNames)
	}

	other := newAuthority(t)
	if _, err := mustLeaf(t, other, "api.stripe.com").Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "api.stripe.com"}); err == nil {
		t.Error("one sandbox's root accepts another's leaf")
	}
}

func TestConcurrentCallsMintOnce(t *testing.T) {
	authority := newAuthority(t)
	var wg sync.WaitGroup
	got := make([]*tls.Certificate, 64)
	for i := range got {
		wg.Go(func() { got[i], _ = authority.Leaf(t.Context(), "api.stripe.com") })
	}
	wg.Wait()
	for _, leaf := range got {
		if leaf == nil || leaf != got[0] {
			t.Fatal("a name was minted more than once at a time")
		}
	}
}

func TestLeafCacheIsBounded(t *testing.T) {
	authority := newAuthority(t)
	first := mustLeaf(t, authority, "first.example.com")
	for i := range 6000 {
		mustLeaf(t, authority, fmt.Sprintf("n%d.example.com", i))
	}
	if mustLeaf(t, authority, "first.example.com") == first {
		t.Error("the least used of 6,001 leaves is still cached")
	}
}

func TestRestoredAuthorityIsTheSame(t *testing.T) {
	authority := newAuthority(t)
	state, err := authority.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	restored, err := mint.Restore(state)
	if err != nil {
		t.Fatal(err)
	}
	if string(restored.CertificatePEM()) != string(authority.CertificatePEM()) {
		t.Error("the restored authority has another certificate")
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority.CertificatePEM())
	if _, err := mustLeaf(t, restored, "api.stripe.com").Leaf.Verify(x509.VerifyOptions{Roots: roots}); err != nil {
		t.Error(err)
	}

	mixed, err := newAuthority(t).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	otherKey := string(mixed[strings.Index(string(mixed), "-----BEGIN PRIVATE"):])
	for name, bad := range map[string][]byte{
		"nothing":     nil,
		"no key":      authority.CertificatePEM(),
		"another key": append(authority.CertificatePEM(), otherKey...),
	} {
		if _, err := mint.Restore(bad); err == nil {
			t.Errorf("%s restores", name)
		}
	}
}

func TestKeysAreNeverShown(t *testing.T) {
	authority := newAuthority(t)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if s := fmt.Sprintf(verb, authority); s != authority.String() {
			t.Errorf("%s prints %q", verb, s)
		}
	}
}

func BenchmarkNewName(b *testing.B) {
	authority := newAuthority(b)
	for i := 0; b.Loop(); i++ {
		mustLeaf(b, authority, fmt.Sprintf("n%d.example.com", i))
	}
}

func newAuthority(t testing.TB) *mint.Authority {
	t.Helper()
	authority, err := mint.New()
	if err != nil {
		t.Fatal(err)
	}
	return authority
}

func mustLeaf(t testing.TB, a *mint.Authority, name string) *tls.Certificate {
	t.Helper()
	leaf, err := a.Leaf(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}
