package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/control"
)

// wantedStep is the body of a request for a step of the control CA's succession.
type wantedStep struct {
	Step  string `json:"step" enum:"stage,activate,retire" doc:"The next one, as get-ca has it"`
	Force bool   `json:"force,omitempty" doc:"Do not wait for sidecars that need the other root"`
}

func (s *Server) caRoutes(api huma.API) {
	route(s, api, huma.Operation{
		OperationID: "get-ca", Method: http.MethodGet, Path: "/v1/ca", Summary: "The control CA, and how far its succession is",
	}, func(ctx context.Context, _ *struct{}) (*answer[control.CAStatus], error) {
		return one(s.Succession.Status(ctx))
	})
	routeBody(s, api, huma.Operation{
		OperationID: "rotate-ca", Method: http.MethodPost, Path: "/v1/ca/rotate", DefaultStatus: http.StatusOK,
		Summary: "Take the next step from one control CA to another",
	}, func(ctx context.Context, _ *struct{}, body *wantedStep) (*answer[control.CAStatus], error) {
		detail := ""
		if body.Force {
			detail = "forced"
		}
		return one(s.Succession.Take(ctx, body.Step, body.Force, act(ctx, "ca."+body.Step, detail)))
	})
}
