package client

import (
	"context"
	"net/http"

	"sallyport/control"
)

// LimitChanges are limits of a credential to be set; what is nil stays as it is.
type LimitChanges struct {
	Methods        *[]string        `json:"methods,omitempty"`
	Paths          *[]string        `json:"paths,omitempty"`
	ExpiresAt      *string          `json:"expires_at,omitempty"` // RFC 3339; "" for never
	Rate           *control.Rate    `json:"rate,omitempty"`
	Budget         *control.Budget  `json:"budget,omitempty"`
	Approve        *control.Approve `json:"approve,omitempty"`
	ApproveTimeout *control.Seconds `json:"approve_timeout,omitempty"`
}

// Credential gives one, with what was spent of its budget.
func (c *Client) Credential(ctx context.Context, team, vault, name string) (control.Credential, error) {
	return get[control.Credential](ctx, c, "teams", team, "vaults", vault, "credentials", name)
}

// SetLimits changes a credential's limits.
func (c *Client) SetLimits(ctx context.Context, team, vault, name string, limits *LimitChanges) (control.Credential, error) {
	body := struct {
		Limits *LimitChanges `json:"limits"`
	}{limits}
	return send[control.Credential](ctx, c, http.MethodPatch, body, "teams", team, "vaults", vault, "credentials", name)
}

// Explain tells what would become of a request of an agent.
func (c *Client) Explain(ctx context.Context, team, agent, method, url string) (control.Explanation, error) {
	body := struct {
		Method string `json:"method"`
		URL    string `json:"url"`
	}{method, url}
	return send[control.Explanation](ctx, c, http.MethodPost, body, "teams", team, "agents", agent, "explain")
}
