package agentapi

import (
	"bytes"
	"context"
	"errors"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"sallyport/control"
	"sallyport/control/api"
	"sallyport/control/exchange"
	"sallyport/control/store"
)

const (
	// freshFor is how long material is used without asking again. A revocation
	// that the stream could not deliver takes effect after it.
	freshFor = 5 * time.Minute
	// hardFor is how long material may serve when nobody can be asked: long
	// enough to sit out an outage, short enough that a cut-off sidecar starves.
	hardFor = time.Hour
)

// errUnbound is the one answer for a credential that does not exist, is not
// pinned, has another version now or is not for the host, so that nothing can be
// learnt by asking.
var errUnbound = control.Errorf(control.CodeNotFound, "no such credential for this sandbox, version and host")

// Fetch leases material: recorded first, then sealed to the sandbox's own key.
func (s *Server) Fetch(ctx context.Context, request *connect.Request[api.FetchRequest]) (*connect.Response[api.FetchResponse], error) {
	p := peerOf(ctx)
	response, err := s.fetch(ctx, p, request.Msg)
	s.Metrics.fetched(err)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(response), nil
}

func (s *Server) fetch(ctx context.Context, p peer, m *api.FetchRequest) (*api.FetchResponse, error) {
	standing, err := s.standings.call(ctx, p.Team, store.Use{SandboxID: p.ID, CredentialID: m.GetCredentialId(), Version: int64(m.GetVersion())})
	switch {
	case err != nil:
		return nil, gone(err)
	case !standing.Known:
		return nil, errGone
	}
	if err := s.holds(ctx, p, standing.Identity); err != nil {
		return nil, err
	}
	if standing.Err != nil {
		return nil, refused(standing.Err)
	}
	bound := standing.Bound
	// The database reads an id in many spellings, and what is sealed names only one.
	if bound.Credential.ID != m.GetCredentialId() || !serves(bound.Credential, m.GetHost()) {
		return nil, errUnbound
	}
	if !bound.Credential.Limits.None() && !m.GetLimits() {
		return nil, errOldSidecar
	}
	if err := s.lookUp(ctx, bound); err != nil {
		return nil, err
	}
	sealed, expiry, err := s.material(ctx, bound, standing.Identity.SealKey)
	if errors.Is(err, exchange.ErrRotated) {
		return nil, errUnbound
	}
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	lease, err := s.granted.call(ctx, p.Team, store.Grant{
		TeamID: p.Team, SandboxID: p.ID, CredentialID: bound.Credential.ID, Version: bound.Credential.Version,
		Host: m.GetHost(), FreshFor: freshFor, HardFor: hardFor, Lasts: until(expiry, begun), Detail: lies(bound.Credential),
	})
	if err == nil {
		err = lease.Err
	}
	if err != nil {
		return nil, refused(err)
	}
	// By this machine's clock, as the answer's Date, which the sidecar counts from: the
	// database's may be another.
	here := func(t time.Time) *timestamppb.Timestamp { return timestamppb.New(begun.Add(t.Sub(lease.Granted))) }
	return &api.FetchResponse{
		Version: uint64(bound.Credential.Version), Sealed: sealed, LeaseId: lease.ID,
		FreshUntil: here(lease.FreshUntil), HardExpiry: here(lease.HardExpiry),
	}, nil
}

// until is how long something lasts that expires, a moment if it has; zero for what doesn't.
func until(expiry, now time.Time) time.Duration {
	if expiry.IsZero() {
		return 0
	}
	return max(expiry.Sub(now), time.Microsecond)
}

// acting is the sandbox that p acts for, if it is enrolled and p holds its stream.
func (s *Server) acting(ctx context.Context, p peer) (store.Identity, error) {
	known, err := s.Store.Identity(ctx, p.Team, p.ID)
	if err != nil {
		return known, gone(err)
	}
	return known, s.holds(ctx, p, known)
}

// holds is nil if p's sandbox, which is known as that, is enrolled and p holds its stream.
func (s *Server) holds(ctx context.Context, p peer, known store.Identity) error {
	if known.State != control.SandboxEnrolled {
		return errGone
	}
	if err := s.enrolledAs(ctx, p, known); err != nil {
		return err
	}
	strange, err := known.Sessions.Check(p.session)
	if strange {
		s.Metrics.strange()
		s.alert(ctx, p, stranger)
	}
	return err
}

// enrolledAs is nil if p shows the key that its sandbox, which is known as that, enrolled with.
func (s *Server) enrolledAs(ctx context.Context, p peer, known store.Identity) error {
	if bytes.Equal(known.PublicKeyHash, p.keyHash()) {
		return nil
	}
	s.alert(ctx, p, forged)
	return errGone
}

// material is what is injected for a bound credential, sealed to the sandbox's key,
// and until when it holds.
func (s *Server) material(ctx context.Context, bound store.Bound, sealKey []byte) (sealed []byte, expiry time.Time, err error) {
	material, expiry, err := s.Material(ctx, bound)
	if err != nil {
		return nil, expiry, err
	}
	defer material.Wipe()
	sealed, err = api.SealMaterial(sealKey, bound.Credential.ID, uint64(bound.Credential.Version), material)
	return sealed, expiry, err
}

// serves reports whether one of the credential's hosts is host.
func serves(c control.Credential, host string) bool {
	name, err := api.NormalizeHost(host)
	if err != nil {
		return false
	}
	for _, h := range c.Hosts {
		// The port is for the sidecar to check: it alone sees the connection.
		if p, err := api.ParseHostPattern(h); err == nil && p.Match(name, p.Port()) {
			return true
		}
	}
	return false
}

// refused is the answer to a refusal of the store.
func refused(err error) error {
	var known *control.Error
	if !errors.As(err, &known) {
		return err
	}
	switch known.Code {
	case control.CodeNotFound, control.CodeInvalid:
		return errUnbound
	case control.CodeForbidden:
		return errGone
	}
	return err
}
