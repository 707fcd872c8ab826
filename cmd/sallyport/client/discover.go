package client

import (
	"context"
	"net/http"

	"sallyport/control"
)

// Discovery is an MCP server that a credential is wanted for.
type Discovery struct {
	Name        string   `json:"name"`
	URL         string   `json:"url"`
	RedirectURI string   `json:"redirect_uri"`
	Scope       string   `json:"scope,omitempty"`
	Hosts       []string `json:"endpoint_hosts,omitempty"`
}

// DiscoverCredential has the control plane find out who gives tokens for a server,
// register a client there, and store a credential that somebody can log in for.
func (c *Client) DiscoverCredential(ctx context.Context, team, vault string, wanted Discovery) (control.Credential, error) {
	return send[control.Credential](ctx, c, http.MethodPost, wanted, "teams", team, "vaults", vault, "discover")
}
