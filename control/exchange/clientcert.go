package exchange

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"net/http"
	"time"

	"sallyport/control"
	"sallyport/control/api"
)

// soon is how long before its end one is told of a certificate's.
const soon = 30 * 24 * time.Hour

// clientCert is a TLS client certificate with its chain and key, in PEM. They are
// one secret, so that a rotation replaces them together.
func clientCert(now func() time.Time) Kind {
	return Kind{
		Check: func(c control.Credential) error {
			if c.AllowHTTP {
				return control.Errorf(control.CodeInvalid, "a client certificate has no place in plain HTTP: leave allow_http out")
			}
			return nil
		},
		CheckSecret: func(_ control.Credential, secret control.Secret) error {
			pair, err := readPair(secret)
			if err == nil && !now().Before(pair.Leaf.NotAfter) {
				err = control.Errorf(control.CodeInvalid, "the certificate has ended on %s", pair.Leaf.NotAfter.UTC().Format(time.DateOnly))
			}
			return err
		},
		Exchange: func(_ context.Context, _ *http.Client, c control.Credential, secret control.Secret) (Minted, error) {
			pair, err := readPair(secret)
			if err != nil {
				return Minted{}, err
			}
			if !now().Before(pair.Leaf.NotAfter) {
				return Minted{}, control.Errorf(control.CodeExchange, "the client certificate of %s/%s has ended on %s; rotate it", c.Vault, c.Name, pair.Leaf.NotAfter.UTC().Format(time.DateOnly))
			}
			return Minted{Material: api.Material{Token: clone(secret)}, Expiry: pair.Leaf.NotAfter}, nil
		},
	}
}

// readPair reads a chain and the key of its first certificate. Errors don't quote it.
func readPair(secret control.Secret) (tls.Certificate, error) {
	want := "the secret is the certificate, those between it and the authority, and its key without a passphrase, one after another in PEM"
	keys := 0
	for rest := []byte(secret); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			keys++
			clear(block.Bytes)
		}
	}
	if keys != 1 {
		return tls.Certificate{}, control.Errorf(control.CodeInvalid, "there are %d keys; %s", keys, want)
	}
	pair, err := tls.X509KeyPair(secret, secret)
	if err != nil {
		return tls.Certificate{}, control.Errorf(control.CodeInvalid, "the certificate and its key can't be read, or do not belong together; %s", want)
	}
	return pair, nil
}

// certificateEnds tells of an end that is near.
func certificateEnds(secret control.Secret, now time.Time) string {
	pair, err := readPair(secret)
	if err != nil {
		return ""
	}
	end := pair.Leaf.NotAfter
	if end.Sub(now) > soon {
		return ""
	}
	return fmt.Sprintf("the certificate ends on %s", end.UTC().Format(time.DateTime))
}
