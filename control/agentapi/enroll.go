package agentapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"

	"connectrpc.com/connect"

	"sallyport/control"
	"sallyport/control/api"
	"sallyport/control/identity"
)

// maxVersionLength bounds what a sidecar calls its build.
const maxVersionLength = 128

// Enroll checks all that can be checked before it uses up the join token, so
// that a mistake does not cost one.
func (s *Server) Enroll(ctx context.Context, request *connect.Request[api.EnrollRequest]) (*connect.Response[api.EnrollResponse], error) {
	m := request.Msg
	token, err := identity.ParseJoinToken(m.GetJoinToken())
	if err != nil {
		return nil, err
	}
	publicKey, keyHash, err := requestedKey(m.GetCsr(), peerOf(ctx).cert)
	if err != nil {
		return nil, err
	}
	if err := api.CheckSealKey(m.GetSealKey()); err != nil {
		return nil, control.Errorf(control.CodeInvalid, "the seal key is not an X-Wing public key")
	}
	if len(m.GetVersion()) > maxVersionLength {
		return nil, control.Errorf(control.CodeInvalid, "the sidecar's version is longer than %d bytes", maxVersionLength)
	}
	who, err := s.Store.ConsumeJoinToken(ctx, token.Hash())
	if err != nil {
		return nil, err
	}
	if err := s.Store.SetIdentity(ctx, who.TeamID, who.SandboxID, keyHash, m.GetSealKey(), clean(m.GetVersion(), maxVersionLength)); err != nil {
		return nil, err
	}
	certificate, err := s.issue(identity.Sandbox{Team: who.TeamID, ID: who.SandboxID}, publicKey, 1)
	if err != nil {
		return nil, err
	}
	s.Log.Info("sandbox enrolled", "team", who.Team, "agent", who.Agent, "sandbox", who.SandboxID)
	return connect.NewResponse(&api.EnrollResponse{
		Certificate: certificate, Team: who.Team, Agent: who.Agent, SandboxId: who.SandboxID,
	}), nil
}

// Renew gives the same key a new certificate. Without a CSR it notes that the last one
// has arrived.
func (s *Server) Renew(ctx context.Context, request *connect.Request[api.RenewRequest]) (*connect.Response[api.RenewResponse], error) {
	p, m := peerOf(ctx), request.Msg
	publicKey := p.cert.PublicKey
	if len(m.GetCsr()) > 0 {
		var err error
		if publicKey, _, err = requestedKey(m.GetCsr(), p.cert); err != nil {
			return nil, err
		}
	}
	known, err := s.Store.Identity(ctx, p.Team, p.ID)
	if err != nil {
		return nil, gone(err)
	}
	if known.State != control.SandboxEnrolled {
		return nil, errGone
	}
	if err := s.enrolledAs(ctx, p, known); err != nil {
		return nil, err
	}
	if len(m.GetCsr()) == 0 {
		return connect.NewResponse(&api.RenewResponse{}), s.Store.ConfirmGeneration(ctx, p.Team, p.ID, int64(m.GetGeneration()))
	}
	csrHash := sha256.Sum256(m.GetCsr())
	generation, err := s.Store.AdvanceGeneration(ctx, p.Team, p.ID, int64(m.GetGeneration()), csrHash[:])
	if err != nil {
		return nil, gone(err)
	}
	certificate, err := s.issue(p.Sandbox, publicKey, uint64(generation))
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&api.RenewResponse{Certificate: certificate}), nil
}

// requestedKey is the key of a CSR, which must be the one that the connection
// was made with.
func requestedKey(csr []byte, cert *x509.Certificate) (publicKey any, hash []byte, err error) {
	publicKey, err = identity.ParseCSR(csr)
	if err != nil {
		return nil, nil, err
	}
	hash, err = identity.KeyHash(publicKey)
	if err != nil {
		return nil, nil, err
	}
	presented, err := identity.KeyHash(cert.PublicKey)
	if err != nil {
		return nil, nil, err
	}
	if !bytes.Equal(hash, presented) {
		return nil, nil, control.Errorf(control.CodeInvalid, "the certificate request has another key than the connection")
	}
	return publicKey, hash, nil
}

func (s *Server) issue(who identity.Sandbox, publicKey any, generation uint64) (*api.Certificate, error) {
	der, err := s.Authority.IssueSandbox(who, publicKey)
	if err != nil {
		return nil, err
	}
	return &api.Certificate{Chain: [][]byte{der}, Roots: s.Authority.Roots(), Generation: generation}, nil
}

// errGone is the one answer to a sandbox that was revoked, locked or removed.
var errGone = control.Errorf(control.CodeForbidden, "this sandbox was revoked")

// gone makes "no such sandbox" the same as "revoked": a sidecar can't tell, and
// must stop in either case.
func gone(err error) error {
	if c := control.CodeOf(err); c == control.CodeNotFound || c == control.CodeForbidden {
		return errGone
	}
	return err
}
