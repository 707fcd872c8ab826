package client

import (
	"context"
	"net/http"

	"sallyport/control"
)

// Approvals lists the requests that wait for a person.
func (c *Client) Approvals(ctx context.Context, team string) ([]control.Approval, error) {
	return list[control.Approval](ctx, c, 0, "teams", team, "approvals")
}

// Approval gives one, as it is now.
func (c *Client) Approval(ctx context.Context, team, id string) (control.Approval, error) {
	return get[control.Approval](ctx, c, "teams", team, "approvals", id)
}

// Decide approves or denies what was shown, and nothing else.
func (c *Client) Decide(ctx context.Context, team string, shown control.Approval, approve bool) (control.Approval, error) {
	verb := "deny"
	if approve {
		verb = "approve"
	}
	var decided control.Approval
	p, err := path("teams", team, "approvals", shown.ID, verb)
	if err != nil {
		return decided, err
	}
	return decided, c.callWith(ctx, callTimeout, http.Header{"If-Match": {shown.Tag()}}, http.MethodPost, p, nil, &decided)
}
