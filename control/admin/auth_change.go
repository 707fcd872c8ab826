package admin

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sallyport/control"
	"sallyport/control/store"
)

// updateAuth gives a credential another auth kind, other settings or both. What is
// injected for its secret is another then, so it gets a new version of the same secret.
func (s *Server) updateAuth(ctx context.Context, in *CredentialPath, body *changes) (*answer[control.Credential], error) {
	team := teamOf(ctx).ID
	bound, err := s.Store.Current(ctx, team, in.Vault, in.Credential)
	if err != nil {
		return nil, err
	}
	c := bound.Credential
	if c.Captured != nil {
		return nil, control.Errorf(control.CodeConflict, "the credential %s/%s was captured: what it is can't be changed", c.Vault, c.Name)
	}
	if body.Auth != "" {
		c.Auth = body.Auth
	}
	if body.Settings != nil {
		c.Settings = body.Settings
	}
	if err := s.checkAuth(c); err != nil {
		return nil, err
	}
	if err := checkRules(c); err != nil {
		return nil, err
	}
	sealed, err := s.reseal(ctx, bound, c)
	if err != nil {
		return nil, err
	}
	detail := fmt.Sprintf("%s/%s: auth %s%s", c.Vault, c.Name, c.Auth, described(c.Settings))
	if _, _, err := s.Store.SetAuth(ctx, team, c.ID, c.Version, c, sealed, act(ctx, "credential.update", detail)); err != nil {
		return nil, err
	}
	return one(s.Store.Credential(ctx, team, in.Vault, in.Credential))
}

// reseal checks that the secret of bound is one of what it becomes, and seals it for
// the next version.
func (s *Server) reseal(ctx context.Context, bound store.Bound, becomes control.Credential) (control.SealedSecret, error) {
	secret, err := s.Sealer.Open(ctx, bound.Key, bound.Identity, bound.Secret)
	if err != nil {
		return control.SealedSecret{}, err
	}
	defer secret.Wipe()
	if err := s.Exchange.CheckSecret(becomes, secret); err != nil {
		return control.SealedSecret{}, control.Errorf(control.CodeInvalid, "the secret that is stored does not fit auth %s; store another credential: %v", becomes.Auth, err)
	}
	return s.seal(ctx, bound.Identity.Vault, becomes.ID, becomes.Version+1, secret)
}

// described are settings as an event tells of them.
func described(s control.Settings) string {
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s)) {
		fmt.Fprintf(&text, ", %s %q", name, s[name])
	}
	return text.String()
}
