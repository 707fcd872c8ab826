package agentapi

import (
	"context"
	"crypto/rand"
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
	key, err := s.Store.VaultKey(ctx, p.Team, bound.Identity.Vault)
	if err != nil {
		return nil, refused(err)
	}
	c := store.Capture{
		TeamID: p.Team, SandboxID: p.ID, CredentialID: bound.Credential.ID, Version: bound.Credential.Version, OriginID: bound.Credential.ID,
		Host: clean(m.GetHost(), 260), RequestID: clean(m.GetRequestId(), 64), Rule: rule.String(),
	}
	origin := bound.Credential.Name
	if captured := bound.Credential.Captured; captured != nil {
		c.OriginID, origin = captured.OriginID, captured.Origin
	}
	response := &api.CaptureResponse{}
	for _, secret := range m.GetSecrets() {
		made := newCredential(bound.Credential, rule, rule.Places[secret.GetPlace()], origin)
		id := control.SecretIdentity{Team: p.Team, Vault: bound.Identity.Vault, Credential: made.ID, Version: 1, Field: control.FieldSecret}
		sealed, err := s.Sealer.Seal(ctx, key, id, secret.GetValue())
		if err != nil {
			return nil, err
		}
		c.Secrets = append(c.Secrets, store.NewSecret{Credential: made, Secret: sealed, TTL: lifetime(rule, m)})
		response.Names = append(response.Names, made.Name)
	}
	revision, err := s.Store.Capture(ctx, c)
	if err != nil {
		return nil, refused(err)
	}
	response.Revision = uint64(revision)
	return response, nil
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
