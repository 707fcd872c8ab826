package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/control"
)

// wantedRotation is the body of a request for a rotation of keys.
type wantedRotation struct {
	NewDataKeys bool `json:"new_data_keys,omitempty" doc:"Also make new data keys, and seal every secret under them"`
}

func (s *Server) keyRoutes(api huma.API) {
	route(s, api, huma.Operation{
		OperationID: "get-keys", Method: http.MethodGet, Path: "/v1/keys", Summary: "Which keys everything depends on, and how far a rotation is",
	}, func(ctx context.Context, _ *struct{}) (*answer[control.KeyStatus], error) {
		return one(s.Rekey.Status(ctx))
	})
	routeBody(s, api, huma.Operation{
		OperationID: "rotate-keys", Method: http.MethodPost, Path: "/v1/keys/rotate", DefaultStatus: http.StatusAccepted,
		Summary: "Wrap every data key under the control plane's key-encryption key; what runs already goes on",
	}, func(ctx context.Context, _ *struct{}, body *wantedRotation) (*answer[control.KeyRotation], error) {
		detail := "to this replica's key-encryption key"
		if body.NewDataKeys {
			detail += ", with new data keys"
		}
		return one(s.Rekey.Start(ctx, body.NewDataKeys, act(ctx, "key.rotate", detail)))
	})
}
