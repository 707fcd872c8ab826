package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/control"
	"sallyport/control/policy"
	"sallyport/control/store"
)

// newPolicy is a policy to be stored, in the place of the one there is.
type newPolicy struct {
	Default control.Action `json:"default,omitempty" enum:"inspect,passthrough,deny" doc:"Where no rule fits; inspect when absent"`
	Rules   []policyRule   `json:"rules,omitempty" doc:"The first that fits decides"`
}

// policyRule is a control.PolicyRule.
type policyRule struct {
	Action  control.Action `json:"action" enum:"inspect,passthrough,deny"`
	Hosts   []string       `json:"hosts,omitempty" doc:"NAME, *.NAME (one label below), **.NAME (any number), an address or a CIDR prefix; any when absent"`
	Ports   []uint32       `json:"ports,omitempty" minimum:"1" maximum:"65535" doc:"443 and 80 when absent"`
	Methods []string       `json:"methods,omitempty" doc:"In capitals; any when absent; not with passthrough"`
	Paths   []string       `json:"paths,omitempty" doc:"Prefixes that end at a segment; any when absent; not with passthrough"`
}

// agentPolicy is the policy of an agent.
type agentPolicy struct {
	Default  control.Action `json:"default" enum:"inspect,passthrough,deny"`
	Rules    []policyRule   `json:"rules"`
	Revision int64          `json:"revision" doc:"Of the team; a sandbox whose applied_revision has reached it goes by the policy"`
	Notes    []string       `json:"notes" doc:"For people: rules that never apply, or that meet hosts of the agent's credentials"`
}

func (s *Server) policyRoutes(api huma.API) {
	const path = "/v1/teams/{team}/agents/{agent}/policy"
	route(s, api, huma.Operation{
		OperationID: "get-policy", Method: http.MethodGet, Path: path, Summary: "What an agent may reach beside its credentials' hosts",
	}, func(ctx context.Context, in *AgentPath) (*tagged[agentPolicy], error) {
		return policyAnswer(s.Store.Policy(ctx, teamOf(ctx).ID, in.Agent))
	})
	routeBody(s, api, huma.Operation{
		OperationID: "set-policy", Method: http.MethodPut, Path: path,
		Summary: "Replace that as a whole, in running sandboxes too",
	}, s.setPolicy)
}

// policyPut is what a change of a policy names.
type policyPut struct {
	AgentPath
	IfMatch
}

func (s *Server) setPolicy(ctx context.Context, in *policyPut, body *newPolicy) (*tagged[agentPolicy], error) {
	if err := in.required(); err != nil {
		return nil, err
	}
	wanted := control.Policy{Default: body.Default}
	for _, r := range body.Rules {
		wanted.Rules = append(wanted.Rules, control.PolicyRule(r))
	}
	wanted, err := policy.Check(wanted)
	if err != nil {
		return nil, err
	}
	detail := in.Agent + ": " + policy.Format(wanted)
	unchanged := func(p control.Policy) error { return in.check(etag(p)) }
	return policyAnswer(s.Store.SetPolicy(ctx, teamOf(ctx).ID, in.Agent, wanted, unchanged, act(ctx, "agent.policy", detail)))
}

func policyAnswer(p store.AgentPolicy, err error) (*tagged[agentPolicy], error) {
	if err != nil {
		return nil, err
	}
	said := agentPolicy{Default: p.Default, Rules: []policyRule{}, Revision: p.Revision, Notes: policy.Notes(p.Policy, p.Credentials)}
	for _, r := range p.Rules {
		said.Rules = append(said.Rules, policyRule(r))
	}
	return versioned(said, etag(p.Policy), nil)
}
