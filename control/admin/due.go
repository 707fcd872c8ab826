package admin

import (
	"context"
	"fmt"

	"sallyport/control"
)

// setRotateEvery says how often a credential is to be rotated.
func (s *Server) setRotateEvery(ctx context.Context, in *credentialPatch, every control.Days) (*tagged[control.Credential], error) {
	unchanged := func(c control.Credential) error { return in.check(credentialTag(c)) }
	detail := fmt.Sprintf("%s/%s: to be rotated every %s", in.Vault, in.Credential, every)
	if every == 0 {
		detail = fmt.Sprintf("%s/%s: nobody is reminded to rotate it", in.Vault, in.Credential)
	}
	c, err := s.Store.SetRotateEvery(ctx, teamOf(ctx).ID, in.Vault, in.Credential, every, unchanged, act(ctx, "credential.update", detail))
	return versioned(c, credentialTag(c), err)
}
