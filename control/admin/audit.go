package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/control"
)

// auditTimeout bounds the writing of an act, even if the caller has gone.
const auditTimeout = 10 * time.Second

func (s *Server) auditRoutes(api huma.API) {
	route(s, api, huma.Operation{
		OperationID: "list-events", Method: http.MethodGet, Path: "/v1/teams/{team}/audit",
		Summary: "The team's audit events, newest first",
	}, func(ctx context.Context, in *teamPage) (*answer[list[control.Event]], error) {
		return items(s.Store.Events(ctx, teamOf(ctx).ID, in.page()))
	})
}

// audited records what the caller did to detail, after it was done. teamID ""
// is the installation.
func (s *Server) audited(ctx context.Context, teamID, kind, detail string) error {
	name := recordOf(ctx).caller.Name
	id := recordOf(ctx).id
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditTimeout)
	defer cancel()
	err := s.Store.AppendAct(ctx, teamID, control.Event{
		Time: time.Now().UTC(), Kind: kind, Actor: "token:" + name, RequestID: id, Detail: detail,
	})
	if err != nil {
		s.Log.Error("act not recorded", "request_id", id, "kind", kind, "detail", detail, "error", err)
		return control.Errorf(control.CodeUnavailable, "%s %s: it was done, but its audit event could not be stored", kind, detail)
	}
	return nil
}
