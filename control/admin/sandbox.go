package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/control"
	"sallyport/control/identity"
)

type sandboxPath struct {
	TeamPath
	Sandbox string `path:"sandbox" doc:"The sandbox's id"`
}

// newSandbox is a sandbox and what its sidecar needs to become it.
type newSandbox struct {
	Sandbox    control.Sandbox `json:"sandbox"`
	JoinToken  string          `json:"join_token" doc:"Lets one sidecar enrol, once. Never shown again."`
	ExpiresAt  time.Time       `json:"expires_at" doc:"When the join token does"`
	SidecarURL string          `json:"sidecar_url" doc:"Where the sidecar finds the control plane"`
}

func (s *Server) sandboxRoutes(api huma.API) {
	const sandboxes = "/v1/teams/{team}/sandboxes"
	route(s, api, huma.Operation{
		OperationID: "list-sandboxes", Method: http.MethodGet, Path: sandboxes, Summary: "The team's sandboxes",
	}, func(ctx context.Context, in *teamPage) (*answer[list[control.Sandbox]], error) {
		return items(s.Store.Sandboxes(ctx, teamOf(ctx).ID, in.page()))
	})
	route(s, api, huma.Operation{
		OperationID: "create-sandbox", Method: http.MethodPost, Path: "/v1/teams/{team}/agents/{agent}/sandboxes",
		Summary: "Make a sandbox of an agent",
	}, s.createSandbox)
	route(s, api, huma.Operation{
		OperationID: "get-sandbox", Method: http.MethodGet, Path: sandboxes + "/{sandbox}", Summary: "One sandbox",
	}, func(ctx context.Context, in *sandboxPath) (*answer[control.Sandbox], error) {
		return one(s.Store.Sandbox(ctx, teamOf(ctx).ID, in.Sandbox))
	})
	route(s, api, huma.Operation{
		OperationID: "delete-sandbox", Method: http.MethodDelete, Path: sandboxes + "/{sandbox}",
		Summary: "Cut a sandbox off at once",
	}, func(ctx context.Context, in *sandboxPath) (*struct{}, error) {
		_, err := s.Store.RevokeSandbox(ctx, teamOf(ctx).ID, in.Sandbox, act(ctx, "sandbox.revoke", in.Sandbox))
		return nil, err
	})
}

func (s *Server) createSandbox(ctx context.Context, in *AgentPath) (*answer[newSandbox], error) {
	token := s.Authority.NewJoinToken()
	expires := time.Now().Add(identity.JoinTokenLifetime).UTC()
	sandbox, err := s.Store.CreateSandbox(ctx, teamOf(ctx).ID, in.Agent, token.Hash(), expires, act(ctx, "sandbox.create", ""))
	if err != nil {
		return nil, err
	}
	return &answer[newSandbox]{newSandbox{
		Sandbox: sandbox, JoinToken: token.Reveal(), ExpiresAt: expires, SidecarURL: s.SidecarURL,
	}}, nil
}
