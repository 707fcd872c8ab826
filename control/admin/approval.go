package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/control"
)

// ApprovalPath names a request that waits for a person.
type ApprovalPath struct {
	TeamPath
	Approval string `path:"approval" doc:"The approval's id"`
}

type approvalPage struct {
	TeamPath
	PageQuery
	All bool `query:"all" doc:"Those that were decided, withdrawn or too late as well, of the last day"`
}

// decision is one about what a person was shown.
type decision struct {
	ApprovalPath
	IfMatch string `header:"If-Match" maxLength:"128" doc:"The ETag of the approval that the person was shown; * is none"`
}

func (s *Server) approvalRoutes(api huma.API) {
	const approvals = "/v1/teams/{team}/approvals"
	route(s, api, huma.Operation{
		OperationID: "list-approvals", Method: http.MethodGet, Path: approvals, Summary: "Requests that wait for a person",
	}, func(ctx context.Context, in *approvalPage) (*answer[list[control.Approval]], error) {
		return items(s.Store.Approvals(ctx, teamOf(ctx).ID, !in.All, in.page()))
	})
	route(s, api, huma.Operation{
		OperationID: "get-approval", Method: http.MethodGet, Path: approvals + "/{approval}", Summary: "One of them, as it is to be shown to who decides",
	}, func(ctx context.Context, in *ApprovalPath) (*tagged[control.Approval], error) {
		return shown(s.Store.Approval(ctx, teamOf(ctx).ID, in.Approval))
	})
	decide := func(id, verb, summary string, approve bool) {
		route(s, api, huma.Operation{
			OperationID: id, Method: http.MethodPost, Path: approvals + "/{approval}/" + verb, DefaultStatus: http.StatusOK, Summary: summary,
		}, func(ctx context.Context, in *decision) (*tagged[control.Approval], error) {
			if in.IfMatch == "" {
				return nil, newProblem(http.StatusPreconditionRequired, codeUnconditional, "send the ETag of what was shown as If-Match: an approval is of that and of nothing else")
			}
			made := act(ctx, "", "")
			return shown(s.Store.DecideApproval(ctx, teamOf(ctx).ID, in.Approval, in.IfMatch, approve, made.Actor, made))
		})
	}
	decide("approve-approval", "approve", "Let the request go on, or for the scope first the sandbox use the credential's version for a day", true)
	decide("deny-approval", "deny", "Refuse the request", false)
}

func shown(a control.Approval, err error) (*tagged[control.Approval], error) {
	return versioned(a, a.Tag(), err)
}
