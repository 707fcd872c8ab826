package client

import (
	"context"
	"net/http"

	"sallyport/control"
)

// NewTrial is what a credential is to be tried with; the control plane chooses what
// is left out.
type NewTrial struct {
	Method string `json:"method,omitempty"`
	Path   string `json:"path,omitempty"`
	Host   string `json:"host,omitempty"`
}

// TestCredential has the control plane send one request with a credential.
func (c *Client) TestCredential(ctx context.Context, team, vault, name string, wanted NewTrial) (control.Trial, error) {
	return send[control.Trial](ctx, c, http.MethodPost, wanted, "teams", team, "vaults", vault, "credentials", name, "test")
}
