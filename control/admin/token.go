package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/control"
)

type tokenPath struct {
	TeamPath
	Token string `path:"token" doc:"The token's name"`
}

type globalTokenPath struct {
	Token string `path:"token" doc:"The token's name"`
}

// wantedToken is the body of a request for a token.
type wantedToken struct {
	Name      string       `json:"name" maxLength:"63"`
	Role      control.Role `json:"role" enum:"owner,admin,member,viewer"`
	ExpiresAt *time.Time   `json:"expires_at,omitempty"`
}

// newToken is a token with its value.
type newToken struct {
	control.Token
	Value string `json:"value" doc:"Never shown again."`
}

func (s *Server) tokenRoutes(api huma.API) {
	const ofTeam, global = "/v1/teams/{team}/tokens", "/v1/tokens"
	route(s, api, huma.Operation{
		OperationID: "list-tokens", Method: http.MethodGet, Path: ofTeam, Summary: "The team's API tokens",
	}, func(ctx context.Context, in *teamPage) (*answer[list[control.Token]], error) {
		return items(s.Store.Tokens(ctx, teamOf(ctx).ID, in.page()))
	})
	routeBody(s, api, huma.Operation{
		OperationID: "create-token", Method: http.MethodPost, Path: ofTeam, Summary: "Make an API token for the team",
	}, func(ctx context.Context, _ *TeamPath, body *wantedToken) (*answer[newToken], error) {
		return s.createToken(ctx, body)
	})
	route(s, api, huma.Operation{
		OperationID: "delete-token", Method: http.MethodDelete, Path: ofTeam + "/{token}", Summary: "Remove an API token of the team",
	}, func(ctx context.Context, in *tokenPath) (*struct{}, error) {
		return nil, s.deleteToken(ctx, in.Token)
	})
	route(s, api, huma.Operation{
		OperationID: "list-global-tokens", Method: http.MethodGet, Path: global, Summary: "API tokens for every team",
	}, func(ctx context.Context, in *PageQuery) (*answer[list[control.Token]], error) {
		return items(s.Store.Tokens(ctx, "", in.page()))
	})
	routeBody(s, api, huma.Operation{
		OperationID: "create-global-token", Method: http.MethodPost, Path: global, Summary: "Make an API token for every team",
	}, func(ctx context.Context, _ *struct{}, body *wantedToken) (*answer[newToken], error) {
		return s.createToken(ctx, body)
	})
	route(s, api, huma.Operation{
		OperationID: "delete-global-token", Method: http.MethodDelete, Path: global + "/{token}", Summary: "Remove an API token for every team",
	}, func(ctx context.Context, in *globalTokenPath) (*struct{}, error) {
		return nil, s.deleteToken(ctx, in.Token)
	})
}

// createToken makes a token for the team of the path, or without one for every team.
func (s *Server) createToken(ctx context.Context, body *wantedToken) (*answer[newToken], error) {
	if err := control.CheckName("token", body.Name); err != nil {
		return nil, err
	}
	if rank(body.Role) == 0 {
		return nil, control.Errorf(control.CodeInvalid, "the role must be owner, admin, member or viewer")
	}
	if body.ExpiresAt != nil && !body.ExpiresAt.After(time.Now()) {
		return nil, control.Errorf(control.CodeInvalid, "the token would have expired already")
	}
	team, value := teamOf(ctx), NewToken()
	token, err := s.Store.CreateToken(ctx, team.ID, control.Token{
		Name: body.Name, Team: team.Name, Role: body.Role, ExpiresAt: body.ExpiresAt,
	}, HashToken(value), act(ctx, "token.create", string(body.Role)+" "+body.Name))
	if err != nil {
		return nil, err
	}
	return one(newToken{Token: token, Value: value}, nil)
}

func (s *Server) deleteToken(ctx context.Context, name string) error {
	return s.Store.DeleteToken(ctx, teamOf(ctx).ID, name, act(ctx, "token.delete", name))
}
