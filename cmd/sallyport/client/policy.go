package client

import (
	"context"
	"net/http"

	"sallyport/control"
)

// AgentPolicy is an agent's policy with what there is to say of it.
type AgentPolicy struct {
	control.Policy
	Revision int64    `json:"revision,omitempty"` // of the team; sandboxes that have applied it go by the policy
	Notes    []string `json:"notes,omitempty"`
}

// Policy gives what an agent may reach beside its credentials' hosts.
func (c *Client) Policy(ctx context.Context, team, agent string) (AgentPolicy, error) {
	return get[AgentPolicy](ctx, c, "teams", team, "agents", agent, "policy")
}

// SetPolicy replaces that, in running sandboxes too.
func (c *Client) SetPolicy(ctx context.Context, team, agent string, wanted control.Policy) (AgentPolicy, error) {
	return send[AgentPolicy](ctx, c, http.MethodPut, wanted, "teams", team, "agents", agent, "policy")
}
