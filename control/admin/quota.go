package admin

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/control"
)

// quotaPatch is what a change of a quota names.
type quotaPatch struct {
	TeamPath
	IfMatch
}

func (s *Server) quotaRoutes(api huma.API) {
	const path = "/v1/teams/{team}/quota"
	route(s, api, huma.Operation{
		OperationID: "get-quota", Method: http.MethodGet, Path: path, Summary: "How much the team may have, and has",
	}, func(ctx context.Context, _ *TeamPath) (*tagged[control.Quota], error) {
		q, err := s.Store.Quota(ctx, teamOf(ctx).ID)
		return versioned(q, etag(q.Limits), err)
	})
	routeBody(s, api, huma.Operation{
		OperationID: "set-quota", Method: http.MethodPatch, Path: path, Summary: "Change how much the team may have: what is left out stays, -1 is as much as usual",
	}, s.setQuota)
}

func (s *Server) setQuota(ctx context.Context, in *quotaPatch, body *control.QuotaChange) (*tagged[control.Quota], error) {
	if err := in.required(); err != nil {
		return nil, err
	}
	if *body == (control.QuotaChange{}) {
		return nil, control.Errorf(control.CodeInvalid, "there is nothing to change: give vaults, credentials, agents, sandboxes, tokens, events or fetches")
	}
	detail, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	unchanged := func(a control.Amounts) error { return in.check(etag(a)) }
	q, err := s.Store.SetQuota(ctx, teamOf(ctx).ID, *body, unchanged, act(ctx, "team.quota", string(detail)))
	return versioned(q, etag(q.Limits), err)
}
