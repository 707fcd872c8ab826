package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Verification is what was found of a part of a team's chain of events.
type Verification struct {
	Events int64  `json:"events"`
	Start  string `json:"start,omitempty"`
	Head   string `json:"head"`
	Next   bool   `json:"next"`
	Broken string `json:"broken,omitempty"`
	Kept   bool   `json:"kept"`
}

// VerifyAudit verifies a part of a team's chain after a head, "" for the first. head is
// the hash of one that was kept, "" for none.
func (c *Client) VerifyAudit(ctx context.Context, team, after, head string) (Verification, error) {
	return ask[Verification](ctx, c, callTimeout, url.Values{"after": {after}, "head": {head}}, "teams", team, "audit", "verify")
}

// AuditFilter says which events FollowAudit gives.
type AuditFilter struct {
	After                 int64 // -1 for those to come
	Since, Until          time.Time
	Agent, Host, Decision string
	Wait                  time.Duration // for an event, when there is none; at most 30 s
}

// Followed are events, oldest first, as the control plane wrote them, and where to go on.
type Followed struct {
	Items []json.RawMessage `json:"items"`
	Next  int64             `json:"next"`
}

// FollowAudit gives the team's events after a place.
func (c *Client) FollowAudit(ctx context.Context, team string, f AuditFilter) (Followed, error) {
	query := url.Values{
		"after": {strconv.FormatInt(f.After, 10)}, "agent": {f.Agent}, "host": {f.Host}, "decision": {f.Decision},
		"wait": {strconv.Itoa(int(f.Wait.Seconds()))}, "limit": {"1000"},
	}
	if !f.Since.IsZero() {
		query.Set("since", f.Since.UTC().Format(time.RFC3339Nano))
	}
	if !f.Until.IsZero() {
		query.Set("until", f.Until.UTC().Format(time.RFC3339Nano))
	}
	return ask[Followed](ctx, c, callTimeout+f.Wait, query, "teams", team, "audit", "follow")
}

// ask fetches one thing by a query, of which what is empty is left out.
func ask[T any](ctx context.Context, c *Client, timeout time.Duration, query url.Values, segments ...string) (T, error) {
	var out T
	p, err := path(segments...)
	if err != nil {
		return out, err
	}
	for name, values := range query {
		if values[0] == "" {
			query.Del(name)
		}
	}
	return out, c.call(ctx, timeout, http.MethodGet, p+"?"+query.Encode(), nil, &out)
}
