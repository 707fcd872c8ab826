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

// maxOverlap bounds how long two values of a token are good.
const maxOverlap = 7 * 24 * time.Hour

// tokenRotation is the body of a token's rotation.
type tokenRotation struct {
	Overlap   string     `json:"overlap,omitempty" maxLength:"16" doc:"How long the value it has is good yet, as in 1h, 168h at most; no longer, if that is left out"`
	ExpiresAt *time.Time `json:"expires_at,omitempty" doc:"When the token ends; left out, after as long as it had before"`
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
	routeBody(s, api, huma.Operation{
		OperationID: "rotate-token", Method: http.MethodPost, Path: ofTeam + "/{token}/rotate", DefaultStatus: http.StatusOK,
		Summary: "Give an API token of the team a new value",
	}, func(ctx context.Context, in *tokenPath, body *tokenRotation) (*answer[newToken], error) {
		return s.rotateToken(ctx, in.Token, body)
	})
	routeBody(s, api, huma.Operation{
		OperationID: "rotate-global-token", Method: http.MethodPost, Path: global + "/{token}/rotate", DefaultStatus: http.StatusOK,
		Summary: "Give an API token for every team a new value",
	}, func(ctx context.Context, in *globalTokenPath, body *tokenRotation) (*answer[newToken], error) {
		return s.rotateToken(ctx, in.Token, body)
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
	expires, err := s.tokenEnd(body.ExpiresAt)
	if err != nil {
		return nil, err
	}
	team, value := teamOf(ctx), NewToken()
	token, err := s.Store.CreateToken(ctx, team.ID, control.Token{
		Name: body.Name, Team: team.Name, Role: body.Role, ExpiresAt: expires,
	}, HashToken(value), act(ctx, "token.create", string(body.Role)+" "+body.Name))
	if err != nil {
		return nil, err
	}
	return one(newToken{Token: token, Value: value}, nil)
}

// tokenEnd is when a token ends that is wanted to end at wanted: at the longest, and by
// itself, after the installation's maximum.
func (s *Server) tokenEnd(wanted *time.Time) (*time.Time, error) {
	now := time.Now()
	if wanted == nil && s.TokenLifetime > 0 {
		end := now.Add(s.TokenLifetime).UTC()
		return &end, nil
	}
	switch {
	case wanted != nil && !wanted.After(now):
		return nil, control.Errorf(control.CodeInvalid, "the token would have expired already")
	case wanted != nil && s.TokenLifetime > 0 && wanted.After(now.Add(s.TokenLifetime+time.Minute)):
		return nil, control.Errorf(control.CodeInvalid, "API tokens live for %s at most here: give an earlier expires_at, or none", s.TokenLifetime)
	}
	return wanted, nil
}

func (s *Server) rotateToken(ctx context.Context, name string, body *tokenRotation) (*answer[newToken], error) {
	var overlap time.Duration
	if body.Overlap != "" {
		var err error
		if overlap, err = time.ParseDuration(body.Overlap); err != nil || overlap < 0 || overlap > maxOverlap {
			return nil, control.Errorf(control.CodeInvalid, "overlap must be a duration from 0s to %s, as in 1h", maxOverlap)
		}
	}
	end := func(t control.Token) (*time.Time, error) {
		if body.ExpiresAt != nil || t.ExpiresAt == nil {
			return s.tokenEnd(body.ExpiresAt)
		}
		since := t.CreatedAt
		if t.RotatedAt != nil {
			since = *t.RotatedAt
		}
		lifetime := t.ExpiresAt.Sub(since)
		if s.TokenLifetime > 0 {
			lifetime = min(lifetime, s.TokenLifetime)
		}
		again := time.Now().Add(lifetime).UTC()
		return s.tokenEnd(&again)
	}
	value := NewToken()
	token, err := s.Store.RotateToken(ctx, teamOf(ctx).ID, name, HashToken(value), overlap, end, act(ctx, "token.rotate", name))
	if err != nil {
		return nil, err
	}
	return one(newToken{Token: token, Value: value}, nil)
}

func (s *Server) deleteToken(ctx context.Context, name string) error {
	return s.Store.DeleteToken(ctx, teamOf(ctx).ID, name, act(ctx, "token.delete", name))
}
