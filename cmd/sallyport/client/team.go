package client

import (
	"context"
	"net/http"

	"sallyport/control"
)

// Team gives a team.
func (c *Client) Team(ctx context.Context, team string) (control.Team, error) {
	return get[control.Team](ctx, c, "teams", team)
}

// SetTeamAudit changes a team's audit mode.
func (c *Client) SetTeamAudit(ctx context.Context, team string, mode control.AuditMode) (control.Team, error) {
	return send[control.Team](ctx, c, http.MethodPatch, map[string]any{"audit": mode}, "teams", team)
}
