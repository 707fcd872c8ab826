package client

import (
	"context"
	"net/http"

	"sallyport/control"
)

// SetRotateEvery says how often a credential is to be rotated, 0 for never.
func (c *Client) SetRotateEvery(ctx context.Context, team, vault, name string, every control.Days) (control.Credential, error) {
	body := struct {
		RotateEvery control.Days `json:"rotate_every"`
	}{every}
	return send[control.Credential](ctx, c, http.MethodPatch, body, "teams", team, "vaults", vault, "credentials", name)
}
