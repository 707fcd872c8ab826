package client

import (
	"context"
	"net/http"
)

// EndOverlap ends the use of the version before a credential's current one.
func (c *Client) EndOverlap(ctx context.Context, team, vault, name string) error {
	return act(ctx, c, http.MethodDelete, "teams", team, "vaults", vault, "credentials", name, "overlap")
}
