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

// updateSettings gives a credential other settings. What is injected for its secret is
// another then, so it gets a new version of the same secret.
func (s *Server) updateSettings(ctx context.Context, in *credentialPatch, body *changes) (*tagged[control.Credential], error) {
	team := teamOf(ctx).ID
	bound, err := s.Store.Current(ctx, team, in.Vault, in.Credential)
	if err != nil {
		return nil, err
	}
	c := bound.Credential
	if err := in.check(credentialTag(c)); err != nil {
		return nil, err
	}
	if c.Captured != nil {
		return nil, control.Errorf(control.CodeConflict, "the credential %s/%s was captured: what it is can't be changed", c.Vault, c.Name)
	}
	before := c
	c.Settings = body.Settings
	if err := s.checkAuth(c); err != nil {
		return nil, err
	}
	if err := s.Exchange.CheckChange(before, c); err != nil {
		return nil, err
	}
	sealed, err := s.reseal(ctx, bound, c)
	if err != nil {
		return nil, err
	}
	detail := fmt.Sprintf("%s/%s: settings%s", c.Vault, c.Name, described(c.Settings))
	if _, _, err := s.Store.SetSettings(ctx, team, c.ID, c.Version, c.Settings, bound.Secret, sealed, act(ctx, "credential.update", detail)); err != nil {
		return nil, err
	}
	c, err = s.Store.Credential(ctx, team, in.Vault, in.Credential)
	return versioned(c, credentialTag(c), err)
}

// reseal checks that the secret of bound is one of what it becomes, and seals it for
// the next version.
func (s *Server) reseal(ctx context.Context, bound store.Bound, becomes control.Credential) (control.SealedSecret, error) {
	if bound.Source != nil {
		return s.resealReference(ctx, bound, becomes)
	}
	secret, err := s.Sealer.Open(ctx, bound.Key, bound.Identity, bound.Secret)
	if err != nil {
		return control.SealedSecret{}, err
	}
	defer secret.Wipe()
	if err := s.Exchange.CheckSecret(becomes, secret); err != nil {
		return control.SealedSecret{}, control.Errorf(control.CodeInvalid, "the secret that is stored does not fit these settings; store another credential: %v", err)
	}
	return s.seal(ctx, bound.Identity.Vault, becomes.ID, becomes.Version+1, secret)
}

// described are settings as an event tells of them.
func described(s control.Settings) string {
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s)) {
		fmt.Fprintf(&text, " %s=%.256q", name, s[name])
	}
	return text.String()
}
