package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/control"
)

// AgentPath names an agent of a team.
type AgentPath struct {
	TeamPath
	Agent string `path:"agent" doc:"The agent's name"`
}

type pinPath struct {
	AgentPath
	Vault string `path:"vault" doc:"The vault's name"`
}

func (s *Server) agentRoutes(api huma.API) {
	const agents = "/v1/teams/{team}/agents"
	route(s, api, huma.Operation{
		OperationID: "list-agents", Method: http.MethodGet, Path: agents, Summary: "The team's agents",
	}, func(ctx context.Context, in *teamPage) (*answer[list[control.Agent]], error) {
		return items(s.Store.Agents(ctx, teamOf(ctx).ID, in.page()))
	})
	routeBody(s, api, huma.Operation{
		OperationID: "create-agent", Method: http.MethodPost, Path: agents, Summary: "Make an agent",
	}, s.createAgent)
	route(s, api, huma.Operation{
		OperationID: "get-agent", Method: http.MethodGet, Path: agents + "/{agent}", Summary: "One agent",
	}, func(ctx context.Context, in *AgentPath) (*answer[control.Agent], error) {
		return one(s.Store.Agent(ctx, teamOf(ctx).ID, in.Agent))
	})
	route(s, api, huma.Operation{
		OperationID: "delete-agent", Method: http.MethodDelete, Path: agents + "/{agent}",
		Summary: "Remove an agent and cut its sandboxes off",
	}, func(ctx context.Context, in *AgentPath) (*struct{}, error) {
		_, err := s.Store.DeleteAgent(ctx, teamOf(ctx).ID, in.Agent, act(ctx, "agent.delete", in.Agent))
		return nil, err
	})
	route(s, api, huma.Operation{
		OperationID: "pin-vault", Method: http.MethodPut, Path: agents + "/{agent}/pins/{vault}",
		Summary: "Let an agent use a vault's credentials; pinning twice changes nothing",
	}, func(ctx context.Context, in *pinPath) (*struct{}, error) {
		_, err := s.Store.Pin(ctx, teamOf(ctx).ID, in.Agent, in.Vault, act(ctx, "agent.pin", in.Agent+" "+in.Vault))
		return nil, err
	})
	route(s, api, huma.Operation{
		OperationID: "unpin-vault", Method: http.MethodDelete, Path: agents + "/{agent}/pins/{vault}",
		Summary: "Stop that at once, in running sandboxes too",
	}, func(ctx context.Context, in *pinPath) (*struct{}, error) {
		_, err := s.Store.Unpin(ctx, teamOf(ctx).ID, in.Agent, in.Vault, act(ctx, "agent.unpin", in.Agent+" "+in.Vault))
		return nil, err
	})
}

func (s *Server) createAgent(ctx context.Context, _ *TeamPath, body *named) (*answer[control.Agent], error) {
	if err := control.CheckName("agent", body.Name); err != nil {
		return nil, err
	}
	return one(s.Store.CreateAgent(ctx, teamOf(ctx).ID, body.Name, act(ctx, "agent.create", body.Name)))
}
