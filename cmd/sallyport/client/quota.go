package client

import (
	"context"
	"net/http"

	"sallyport/control"
)

// Quota tells how much a team may have, and has.
func (c *Client) Quota(ctx context.Context, team string) (control.Quota, error) {
	return get[control.Quota](ctx, c, "teams", team, "quota")
}

// SetQuota changes how much it may have.
func (c *Client) SetQuota(ctx context.Context, team string, change control.QuotaChange) (control.Quota, error) {
	return send[control.Quota](ctx, c, http.MethodPatch, change, "teams", team, "quota")
}
