package agentapi

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"time"

	"sallyport/control"
	"sallyport/control/api"
	"sallyport/control/identity"
)

// peer is who is calling, from the certificate of the connection.
type peer struct {
	identity.Sandbox // zero for a caller of Enroll
	cert             *x509.Certificate
	session          string // as it says
}

// keyHash identifies the key that p has shown, as identity.KeyHash does.
func (p peer) keyHash() []byte {
	hash := sha256.Sum256(p.cert.RawSubjectPublicKeyInfo)
	return hash[:]
}

type certificateKey struct{}
type peerKey struct{}

// withCertificate carries the connection's certificate to the handlers.
func withCertificate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
			http.Error(w, "a client certificate is needed", http.StatusUnauthorized)
			return
		}
		ctx := context.WithValue(r.Context(), certificateKey{}, r.TLS.PeerCertificates[0])
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// withDeadline bounds how long a message may take to arrive and to leave. A
// stream has no end, and none of those.
func withDeadline(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != api.SidecarServiceWatchProcedure {
			end, controller := time.Now().Add(unaryTimeout), http.NewResponseController(w)
			if errors.Join(controller.SetReadDeadline(end), controller.SetWriteDeadline(end)) != nil {
				http.Error(w, "no deadline can be set", http.StatusInternalServerError)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// verifyConnection lets in who may make at least one of the calls: a sandbox of
// ours, even if its certificate expired lately, or a newcomer who has signed for
// himself. What each may call is decided at every call, since connections outlive
// certificates.
func (s *Server) verifyConnection(state tls.ConnectionState, c *connection) (newcomer bool, err error) {
	cert := state.PeerCertificates[0]
	verified, err := s.Authority.Verify(cert, identity.RenewalGrace)
	switch {
	case err == nil && c != nil:
		c.verified.Store(&verified)
	case err != nil && identity.VerifySelfSigned(cert) == nil:
		return true, nil
	}
	return false, err
}

// verify says whose a connection's certificate is.
func (s *Server) verify(ctx context.Context, cert *x509.Certificate, grace time.Duration) (identity.Sandbox, error) {
	if c, ok := ctx.Value(connectionKey{}).(*connection); ok {
		if verified := c.verified.Load(); verified != nil {
			return s.Authority.VerifyAgain(*verified, grace)
		}
	}
	return s.Authority.VerifySandbox(cert, grace)
}

// authenticate says who may call procedure with the connection's certificate.
func (s *Server) authenticate(ctx context.Context, procedure string, header http.Header) (context.Context, error) {
	cert, ok := ctx.Value(certificateKey{}).(*x509.Certificate)
	if !ok {
		return nil, control.Errorf(control.CodeUnauthorized, "a client certificate is needed")
	}
	p := peer{cert: cert, session: header.Get(api.HeaderSession)}
	var err error
	switch procedure {
	case api.SidecarServiceEnrollProcedure:
		err = identity.VerifySelfSigned(cert)
	case api.SidecarServiceRenewProcedure:
		p.Sandbox, err = s.verify(ctx, cert, identity.RenewalGrace)
	default:
		p.Sandbox, err = s.verify(ctx, cert, 0)
	}
	if err != nil {
		return nil, err
	}
	return context.WithValue(ctx, peerKey{}, p), nil
}

// peerOf is the caller that authenticate has put there for every call.
func peerOf(ctx context.Context) peer { return ctx.Value(peerKey{}).(peer) }
