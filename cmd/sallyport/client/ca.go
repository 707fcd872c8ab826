package client

import (
	"context"
	"net/http"

	"sallyport/control"
)

// CA says how far the succession of the control CA is.
func (c *Client) CA(ctx context.Context) (control.CAStatus, error) {
	return get[control.CAStatus](ctx, c, "ca")
}

// RotateCA takes its next step.
func (c *Client) RotateCA(ctx context.Context, step string, force bool) (control.CAStatus, error) {
	body := struct {
		Step  string `json:"step"`
		Force bool   `json:"force,omitempty"`
	}{step, force}
	return send[control.CAStatus](ctx, c, http.MethodPost, body, "ca", "rotate")
}
