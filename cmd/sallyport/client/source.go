package client

import (
	"context"
	"net/http"
	"time"

	"sallyport/control"
)

// NewSource is a source to be made.
type NewSource struct {
	Name     string           `json:"name"`
	Kind     string           `json:"kind"`
	Settings control.Settings `json:"settings,omitempty"`
	Secret   Outgoing         `json:"secret"`
}

// Sources lists the stores outside that credentials of a vault may have their secrets in.
func (c *Client) Sources(ctx context.Context, team, vault string) ([]control.Source, error) {
	return list[control.Source](ctx, c, 0, "teams", team, "vaults", vault, "sources")
}

// CreateSource names one, with what opens it.
func (c *Client) CreateSource(ctx context.Context, team, vault string, source NewSource) (control.Source, error) {
	return send[control.Source](ctx, c, http.MethodPost, source, "teams", team, "vaults", vault, "sources")
}

// RotateSource stores another secret that opens it.
func (c *Client) RotateSource(ctx context.Context, team, vault, name string, secret Outgoing) (control.Source, error) {
	body := struct {
		Secret Outgoing `json:"secret"`
	}{secret}
	return send[control.Source](ctx, c, http.MethodPost, body, "teams", team, "vaults", vault, "sources", name, "rotate")
}

// DeleteSource forgets one that no credential has its secret in.
func (c *Client) DeleteSource(ctx context.Context, team, vault, name string) error {
	return act(ctx, c, http.MethodDelete, "teams", team, "vaults", vault, "sources", name)
}

// RefreshCredential reads a secret anew that lies in a source, and waits as
// RotateCredential does.
func (c *Client) RefreshCredential(ctx context.Context, team, vault, name string, wait time.Duration) (control.Rotation, error) {
	var rotation control.Rotation
	p, err := path("teams", team, "vaults", vault, "credentials", name, "refresh")
	if err != nil {
		return rotation, err
	}
	if wait > 0 {
		p += "?wait=" + wait.String()
	}
	return rotation, c.call(ctx, callTimeout+wait, http.MethodPost, p, nil, &rotation)
}
