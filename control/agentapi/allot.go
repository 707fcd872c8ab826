package agentapi

import (
	"context"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"sallyport/control"
	"sallyport/control/api"
	"sallyport/control/store"
)

// mostAllotted bounds what one call is allotted.
const mostAllotted = 64

// errOldSidecar is said to a sidecar that would use a credential past its limits.
var errOldSidecar = control.Errorf(control.CodeConflict, "the credential has limits, which this sidecar does not know: it has to be a newer one")

// limits are a credential's, as a sidecar keeps them; nil if it has none.
func limitsOf(l control.Limits) *api.Limits {
	if l.None() {
		return nil
	}
	wire := &api.Limits{Methods: l.Methods, Paths: l.Paths, Rate: l.Rate > 0, Budget: l.Budget.Requests > 0, Terms: l.Terms()}
	if l.ExpiresAt != nil {
		wire.Expires = timestamppb.New(*l.ExpiresAt)
	}
	switch l.Approve {
	case control.ApproveNone:
	case control.ApproveFirst:
		wire.Approval = api.Approval_APPROVAL_FIRST
	case control.ApproveEach:
		wire.Approval = api.Approval_APPROVAL_EACH
	default:
		wire.Approval = -1 // a sidecar refuses it
	}
	if wire.Approval != api.Approval_APPROVAL_UNSPECIFIED {
		wire.ApprovalTimeout = durationpb.New(time.Duration(l.ApproveTimeout))
	}
	return wire
}

// Allot gives the calling sandbox a share of what a credential's limits allow.
func (s *Server) Allot(ctx context.Context, request *connect.Request[api.AllotRequest]) (*connect.Response[api.AllotResponse], error) {
	p, m := peerOf(ctx), request.Msg
	if _, err := s.acting(ctx, p); err != nil {
		return nil, err
	}
	rate, budget, err := s.Store.Allot(ctx, store.Share{
		TeamID: p.Team, SandboxID: p.ID, CredentialID: m.GetCredentialId(), Version: int64(m.GetVersion()),
		Ask: control.Ask{Rate: int64(min(m.GetRate(), mostAllotted)), Budget: int64(min(m.GetBudget(), mostAllotted))},
	})
	if err != nil {
		return nil, refused(err)
	}
	return connect.NewResponse(&api.AllotResponse{Rate: allotment(rate), Budget: allotment(budget)}), nil
}

func allotment(a control.Allotment) *api.Allotment {
	wire := &api.Allotment{Requests: uint32(a.Requests)}
	if a.Lasts > 0 {
		wire.Lasts = durationpb.New(a.Lasts)
	}
	if a.RetryAfter > 0 {
		wire.RetryAfter = durationpb.New(a.RetryAfter)
	}
	return wire
}
