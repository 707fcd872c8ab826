package client

import (
	"context"
	"net/http"

	"sallyport/control"
)

// Keys says which keys everything depends on, and how far a rotation is.
func (c *Client) Keys(ctx context.Context) (control.KeyStatus, error) {
	return get[control.KeyStatus](ctx, c, "keys")
}

// RotateKeys begins a rotation, or finds it under way.
func (c *Client) RotateKeys(ctx context.Context, newDataKeys bool) (control.KeyRotation, error) {
	body := struct {
		NewDataKeys bool `json:"new_data_keys,omitempty"`
	}{newDataKeys}
	return send[control.KeyRotation](ctx, c, http.MethodPost, body, "keys", "rotate")
}
