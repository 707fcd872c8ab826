package proxy

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"time"
)

// mostDecided is how often a request is decided about, at most. Each time but the
// first there was a change while it waited.
const mostDecided = 8

// send sends a request as its plan says and gives the head of the response. It is
// decided about anew when its plan no longer stands as it could be sent.
func (s *Server) send(ctx context.Context, r *http.Request, t *travel) (*http.Response, error) {
	trailer := maps.Clone(r.Trailer) // what out's is, too, since its fields come with the body
	for decided := 1; ; decided++ {
		out := outgoing(ctx, r, t)
		bodiless := out.Body == nil
		response, err := s.sendOnce(ctx, t, out)
		var recalled *recalledError
		if !errors.As(err, &recalled) {
			return response, err
		}
		again := t.unsent(recalled, r.Method, bodiless) && decided < mostDecided
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case !again && recalled.perhaps:
			return nil, s.perhapsSent(t, recalled)
		case !again:
			t.Decision = Refuse
			return nil, recalled.cause
		}
		s.recall(t, recalled.perhaps)
		maps.Copy(r.Trailer, trailer)
		if err := s.decide(ctx, r, t); err != nil {
			t.Decision = Refuse
			return nil, err
		}
	}
}

func (s *Server) sendOnce(ctx context.Context, t *travel, out *http.Request) (*http.Response, error) {
	again := spare(t, out)
	if t.body != nil {
		t.body.kept.Store(true)
	}
	if err := s.edit(ctx, t, out); err != nil {
		if out.Body != nil {
			defer out.Body.Close() // nobody else has it
		}
		return nil, err
	}
	sent := time.Now()
	defer func() { t.Upstream = time.Since(sent) }()
	response, err := s.upstreams.roundTrip(ctx, t, out)
	if err == nil && again != nil && response.StatusCode == http.StatusUnauthorized {
		response, err = s.fallBack(ctx, t, again, response)
	}
	return response, err
}

// depart says that the request is being sent.
func (t *travel) depart() {
	if t.body != nil {
		t.body.kept.Store(false)
	}
}

// unsent reports whether a request that was called back can be decided anew: none of
// it was sent, or it may be twice, and all of it is here.
func (t *travel) unsent(e *recalledError, method string, bodiless bool) bool {
	switch {
	case t.before != nil: // what it fell back from was sent
		return false
	case bodiless:
		return !e.perhaps || idempotent(method)
	}
	return !e.perhaps && t.body.kept.Load() && t.body.n.Load() == 0
}

// perhapsSent is the answer to a request that was called back, may have been sent all the
// same, and may not be twice. It does not ask for another.
func (s *Server) perhapsSent(t *travel, e *recalledError) *Error {
	answer := *s.explain(t.Exchange, e)
	answer.Status, answer.RetryAfter, answer.Cause = http.StatusBadGateway, 0, e
	answer.Message = "what the request was decided by was changed as it was being sent; " + t.Host + " has perhaps got it"
	return &answer
}

// recall lets go of what a plan holds that is not carried out, but perhaps has been.
func (s *Server) recall(t *travel, perhaps bool) {
	t.let()
	if s.config.Recalled != nil {
		s.config.Recalled(t.Exchange, perhaps)
	}
	t.letGo()
	t.follow(&Plan{Decision: Refuse})
	t.before, t.Intent = nil, nil
}

func (t *travel) place() place { return place{t.Host, t.Port, t.TLS} }

// hold has let called when the exchange is over, or the request is decided anew.
func (t *travel) hold(let func()) { t.held = append(t.held, let) }

// let lets go of what is held.
func (t *travel) let() {
	for _, let := range t.held {
		let()
	}
	t.held = nil
}
