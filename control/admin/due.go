package admin

import (
	"context"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/control"
)

type teamCredentialsQuery struct {
	TeamPath
	PageQuery
	Due bool `query:"due" doc:"Those alone that are due to be rotated"`
}

// dueRoutes list credentials whatever vault they are in, as who looks after them needs.
func (s *Server) dueRoutes(api huma.API) {
	route(s, api, huma.Operation{
		OperationID: "team-credentials", Method: http.MethodGet, Path: "/v1/teams/{team}/credentials",
		Summary: "The credentials of every vault, or those that are due to be rotated, without their secrets",
	}, func(ctx context.Context, in *teamCredentialsQuery) (*answer[list[control.Credential]], error) {
		return items(s.Store.TeamCredentials(ctx, teamOf(ctx).ID, in.Due, in.page()))
	})
}

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
