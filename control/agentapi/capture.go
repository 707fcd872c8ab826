package agentapi

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"

	"sallyport/control"
	"sallyport/control/api"
	"sallyport/control/store"
)

// leastSecret is the shortest secret, in bytes, that a sidecar can mask.
const leastSecret = 8

var errNoCapture = control.Errorf(control.CodeForbidden, "no rule of the credential captures what it was asked to")

// Capture stores new secrets that a service has handed out to the calling sandbox.
func (s *Server) Capture(ctx context.Context, request *connect.Request[api.CaptureRequest]) (*connect.Response[api.CaptureResponse], error) {
	defer func() {
		for _, secret := range request.Msg.GetSecrets() {
			clear(secret.GetValue())
		}
	}()
	response, err := s.capture(ctx, peerOf(ctx), request.Msg)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(response), nil
}

func (s *Server) capture(ctx context.Context, p peer, m *api.CaptureRequest) (*api.CaptureResponse, error) {
	if _, err := s.acting(ctx, p); err != nil {
		return nil, err
	}
	bound, err := s.Store.Bound(ctx, p.Team, p.ID, m.GetCredentialId(), int64(m.GetVersion()))
	if err != nil {
		return nil, refused(err)
	}
	if bound.Credential.ID != m.GetCredentialId() || !serves(bound.Credential, m.GetHost()) {
		return nil, errUnbound
	}
	rule, err := s.captureRule(bound.Credential, m)
	if err != nil {
		return nil, err
	}
	c := store.Capture{
		TeamID: p.Team, SandboxID: p.ID, CredentialID: bound.Credential.ID, Version: bound.Credential.Version, OriginID: bound.Credential.ID, VaultID: bound.Identity.Vault,
		Host: clean(m.GetHost(), 260), RequestID: clean(m.GetRequestId(), 64), Rule: rule.String(),
	}
	origin := bound.Credential.Name
	if captured := bound.Credential.Captured; captured != nil {
		c.OriginID, origin = captured.OriginID, captured.Origin
	}
	response := &api.CaptureResponse{}
	for _, secret := range m.GetSecrets() {
		made := newCredential(bound.Credential, rule, rule.Places[secret.GetPlace()], origin)
		c.Secrets = append(c.Secrets, store.NewSecret{Credential: made, TTL: lifetime(rule, m)})
		response.Names = append(response.Names, made.Name)
	}
	revision, err := s.sealing(ctx, c, m.GetSecrets())
	if err != nil {
		return nil, err
	}
	response.Revision = uint64(revision)
	return response, nil
}

// sealing seals the secrets of c and stores them. A data key that was replaced in
// between costs another try.
func (s *Server) sealing(ctx context.Context, c store.Capture, secrets []*api.NewSecret) (revision int64, err error) {
	for try := 1; ; try++ {
		key, err := s.Store.VaultKey(ctx, c.TeamID, c.VaultID)
		if err != nil {
			return 0, refused(err)
		}
		for i, secret := range secrets {
			id := control.SecretIdentity{Team: c.TeamID, Vault: c.VaultID, Credential: c.Secrets[i].Credential.ID, Version: 1, Field: control.FieldSecret}
			if c.Secrets[i].Secret, err = s.Sealer.Seal(ctx, key, id, secret.GetValue()); err != nil {
				return 0, err
			}
		}
		revision, err := s.Store.Capture(ctx, c)
		if err == nil || !errors.Is(err, store.ErrKeyReplaced) || try == 3 {
			return revision, refused(err)
		}
	}
}

// captureRule is the rule that a sidecar went by, if it is one of the credential's
// and captures where each secret stood.
func (s *Server) captureRule(c control.Credential, m *api.CaptureRequest) (control.Mint, error) {
	none := control.Mint{}
	rules := s.mints(c)
	at := slices.IndexFunc(rules, func(rule control.Mint) bool { return rule.String() == m.GetRule() })
	if at < 0 || rules[at].Action != control.MintCapture {
		return none, errNoCapture
	}
	if n := len(m.GetSecrets()); n == 0 || n > control.MaxMintPlaces {
		return none, control.Errorf(control.CodeInvalid, "a capture has from 1 to %d secrets", control.MaxMintPlaces)
	}
	for _, secret := range m.GetSecrets() {
		if i := int(secret.GetPlace()); i >= len(rules[at].Places) || rules[at].Places[i].Strip {
			return none, errNoCapture
		}
		if len(secret.GetValue()) < leastSecret {
			return none, control.Errorf(control.CodeInvalid, "a captured secret has at least %d bytes", leastSecret)
		}
		if err := control.CheckSecret(secret.GetValue()); err != nil {
			return none, err
		}
	}
	return rules[at], nil
}

// mints are all the rules that a credential goes by.
func (s *Server) mints(c control.Credential) []control.Mint {
	service, _ := s.Services.Service(c.Service) // without one, it has none
	return slices.Concat(c.Mints, service.Mints)
}

// newCredential is what becomes of a secret that stood at place.
func newCredential(used control.Credential, rule control.Mint, place control.MintPlace, origin string) control.Credential {
	ending := "." + rule.Suffix(place) + "." + strings.ToLower(rand.Text()[:10])
	name := origin[:min(len(origin), control.MaxNameLength-len(ending))] + ending
	hosts := rule.Hosts
	if len(hosts) == 0 {
		hosts = used.Hosts
	}
	return control.Credential{
		ID: store.NewID(), Name: name, Hosts: hosts, Auth: control.AuthToken, Inject: []control.Rule{rule.Rule(place)},
		Placeholders: []string{"vault:" + name},
	}
}

// lifetime is how long a captured secret serves.
func lifetime(rule control.Mint, m *api.CaptureRequest) time.Duration {
	switch {
	case rule.TTL > 0:
		return rule.TTL
	case rule.TTLAt != "" && m.GetTtl() != nil:
		return min(max(m.GetTtl().AsDuration(), time.Second), control.MaxMintTTL)
	}
	return control.DefaultMintTTL
}
