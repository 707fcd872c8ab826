package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/control"
)

func (s *Server) auditRoutes(api huma.API) {
	route(s, api, huma.Operation{
		OperationID: "list-events", Method: http.MethodGet, Path: "/v1/teams/{team}/audit",
		Summary: "The team's audit events, newest first",
	}, func(ctx context.Context, in *teamPage) (*answer[list[control.Event]], error) {
		return items(s.Store.Events(ctx, teamOf(ctx).ID, in.page()))
	})
}

// act is the event of what the caller does to detail. The store records it with
// what is done, or does neither.
func act(ctx context.Context, kind, detail string) control.Event {
	r := recordOf(ctx)
	return control.Event{Kind: kind, Actor: r.caller.actor, RequestID: r.id, Detail: detail}
}
