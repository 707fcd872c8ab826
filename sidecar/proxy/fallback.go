package proxy

import (
	"context"
	"net/http"
)

// spare is a copy of a request as it was before its plan edited it, where that may
// have it sent once more; nil otherwise. It has no body, and may be sent twice.
func spare(t *travel, out *http.Request) *http.Request {
	if t.plan.Fallback == nil || out.Body != nil || !idempotent(out.Method) || upgradeType(out.Header) != "" || t.socket {
		return nil
	}
	return out.Clone(out.Context())
}

// fallBack sends again as the plan's Fallback says, if it does, in the place of a
// request that was answered 401.
func (s *Server) fallBack(ctx context.Context, t *travel, again *http.Request, refused *http.Response) (*http.Response, error) {
	plan := t.plan.Fallback(ctx)
	if plan == nil {
		return refused, nil
	}
	refused.Body.Close()
	t.before = t.plan
	t.follow(plan)
	if err := s.edit(ctx, t, again); err != nil {
		return nil, err
	}
	return s.upstreams.roundTrip(ctx, t, again)
}

// edit does to a request what the plan says, and records that it goes out.
func (s *Server) edit(ctx context.Context, t *travel, out *http.Request) error {
	if t.plan.Request != nil {
		// After the hop-by-hop fields are gone: nothing a client says there can undo it.
		if err := t.plan.Request(out); err != nil {
			t.Decision = Refuse
			return err
		}
	}
	if t.Credential != "" && s.config.Intend != nil {
		if err := s.config.Intend(ctx, t.Exchange); err != nil {
			t.Decision = Refuse
			return err
		}
	}
	if t.plan.Stands != nil {
		if err := t.plan.Stands(); err != nil {
			return &recalledError{cause: err}
		}
	}
	return nil
}

// follow makes plan the one that the exchange goes by.
func (t *travel) follow(plan *Plan) {
	t.plan = plan
	t.Decision, t.Credential, t.Version, t.Lease = plan.Decision, plan.Credential, plan.Version, plan.Lease
}

// letGo releases what the plans hold.
func (t *travel) letGo() {
	for _, plan := range []*Plan{t.before, t.plan} {
		if plan != nil && plan.Release != nil {
			plan.Release(t.Exchange)
		}
	}
}
