package supervise

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"software.sslmate.com/src/go-pkcs12"
)

// javaStore makes a PKCS #12 trust store of a PEM bundle. It has no password,
// as the JDK's own: the JDK opens its default store without one. Certificates
// that Go can't read are left out; the CA is the bundle's last and must be there.
func javaStore(bundle []byte) ([]byte, error) {
	var entries []pkcs12.TrustStoreEntry
	var last error
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		var cert *x509.Certificate
		if cert, last = x509.ParseCertificate(block.Bytes); last == nil {
			entries = append(entries, pkcs12.TrustStoreEntry{Cert: cert, FriendlyName: fmt.Sprintf("ca-%d", len(entries))})
		}
	}
	if last != nil {
		return nil, fmt.Errorf("read the sandbox's CA certificate: %w", last)
	}
	store, err := pkcs12.Passwordless.WithRand(rand.Reader).EncodeTrustStoreEntries(entries, "")
	if err != nil {
		return nil, fmt.Errorf("make the Java trust store: %w", err)
	}
	return store, nil
}
