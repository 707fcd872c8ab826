package client

import (
	"context"
	"net/http"

	"sallyport/control"
)

// EndOverlap ends the use of the version before a credential's current one.
func (c *Client) EndOverlap(ctx context.Context, team, vault, name string) (control.Retired, error) {
	return send[control.Retired](ctx, c, http.MethodDelete, nil, "teams", team, "vaults", vault, "credentials", name, "overlap")
}
