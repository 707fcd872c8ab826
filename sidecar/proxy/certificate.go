package proxy

import (
	"context"
	"crypto/tls"
	"errors"
)

// errCertificateRefused is that of an upstream that was shown the client
// certificate of a credential, and hung up.
var errCertificateRefused = errors.New("the upstream does not accept the client certificate")

type certificateKey struct{}

// withCertificate says what connections made for a request show. They stay in the
// pool of the request's credential and version.
func withCertificate(ctx context.Context, c *tls.Certificate) context.Context {
	return context.WithValue(ctx, certificateKey{}, c)
}

func certificateOf(ctx context.Context) *tls.Certificate {
	c, _ := ctx.Value(certificateKey{}).(*tls.Certificate)
	return c
}
