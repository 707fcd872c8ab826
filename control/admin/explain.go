package admin

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/control"
	"sallyport/control/api"
	"sallyport/control/store"
)

// Explainer tells what a sidecar would do with a request of an agent.
type Explainer func(store.AgentPolicy, control.Target) (control.Explanation, error)

// asked is a request that somebody asks about.
type asked struct {
	Method string `json:"method" maxLength:"64"`
	URL    string `json:"url" maxLength:"8192" doc:"https:// or http://, as the agent would ask for it; its query decides nothing"`
}

func (s *Server) explainRoutes(api huma.API) {
	routeBody(s, api, huma.Operation{
		OperationID: "explain", Method: http.MethodPost, Path: "/v1/teams/{team}/agents/{agent}/explain", DefaultStatus: http.StatusOK,
		Summary: "What would be injected into a request of the agent, by which rule, or why not",
	}, func(ctx context.Context, in *AgentPath, body *asked) (*answer[control.Explanation], error) {
		target, err := parseTarget(body.Method, body.URL)
		if err != nil {
			return nil, err
		}
		known, err := s.Store.Policy(ctx, teamOf(ctx).ID, in.Agent)
		if err != nil {
			return nil, err
		}
		if s.Explain == nil {
			return nil, control.Errorf(control.CodeUnavailable, "this control plane was started without what explains")
		}
		explanation, err := s.Explain(known, target)
		if err != nil {
			return nil, err
		}
		return one(s.atPresent(ctx, in.Agent, explanation))
	})
}

func parseTarget(method, text string) (control.Target, error) {
	var t control.Target
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || u.Opaque != "" {
		return t, control.Errorf(control.CodeInvalid, "the url is none as https://HOST/PATH or http://HOST/PATH")
	}
	if method == "" {
		return t, control.Errorf(control.CodeInvalid, "say the method, as in GET")
	}
	t = control.Target{TLS: u.Scheme == "https", Port: 80, Method: method, Path: u.EscapedPath()}
	if t.TLS {
		t.Port = 443
	}
	if u.Port() != "" {
		port, err := strconv.ParseUint(u.Port(), 10, 16)
		if err != nil || port == 0 {
			return t, control.Errorf(control.CodeInvalid, "the url's port is none")
		}
		t.Port = uint16(port)
	}
	if t.Path == "" {
		t.Path = "/"
	}
	if t.Host, err = api.NormalizeHost(u.Hostname()); err != nil {
		return t, control.Errorf(control.CodeInvalid, "the url's host: %v", err)
	}
	return t, nil
}
