package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/control"
)

func (s *Server) overlapRoutes(api huma.API) {
	route(s, api, huma.Operation{
		OperationID: "end-overlap", Method: http.MethodDelete, Path: "/v1/teams/{team}/vaults/{vault}/credentials/{credential}/overlap",
		Summary: "End the use of the version before the current one, in running sandboxes too",
	}, func(ctx context.Context, in *CredentialPath) (*answer[control.Retired], error) {
		version, err := s.Store.EndOverlap(ctx, teamOf(ctx).ID, in.Vault, in.Credential, act(ctx, "credential.overlap_end", in.Vault+"/"+in.Credential))
		return one(control.Retired{Version: version}, err)
	})
}

// parseOverlap reads how long the current version of c is to stay good beside the next.
func parseOverlap(c control.Credential, text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	overlap, err := time.ParseDuration(text)
	switch {
	case err != nil || overlap < time.Second || overlap > control.MaxOverlap:
		return 0, control.Errorf(control.CodeInvalid, "overlap must be a duration from 1s to %s, as in 10m", control.MaxOverlap)
	case !c.Auth.Sent():
		return 0, control.Errorf(control.CodeInvalid, "versions overlap only of token and basic; this credential's auth is %s, of which requests bear something else than the secret", c.Auth)
	case c.Captured != nil:
		return 0, control.Errorf(control.CodeInvalid, "the credential %s/%s was captured: its versions don't overlap", c.Vault, c.Name)
	}
	return overlap, nil
}
