package admin

import (
	"context"
	"time"

	"sallyport/control"
)

// browserSession is a session that was begun with an API token.
type browserSession struct {
	Value     string    `json:"value" doc:"Sent as a token is. Never shown again."`
	ExpiresAt time.Time `json:"expires_at" doc:"At the latest; it ends before when it is not used, and with the value of the token that it was begun with"`
}

// sessionPace is of the sessions that one token begins: each leaves an event.
var sessionPace = Pace{0.5, 60}

// createTokenSession has a browser forget the token: what it keeps instead is good for
// hours, and as the token only as long as that is. A session begins none, or it would
// have no end.
func (s *Server) createTokenSession(ctx context.Context, _ *struct{}) (*answer[browserSession], error) {
	c := recordOf(ctx).caller
	if c.token == "" || c.browser {
		return nil, control.Errorf(control.CodeForbidden, "a session is begun with an API token, and %s is none", c.who)
	}
	if l := s.begun.of(c.id); !l.Allow() {
		return nil, tooMany(l, "too many sessions were begun with %s: keep one", c.who)
	}
	value := newSessionValue()
	ends, err := s.Store.CreateTokenSession(ctx, c.hash, HashToken(value), s.SessionIdle, s.SessionLifetime,
		act(ctx, "session.create", "a browser, with the token "+c.token+" of "+c.teams()))
	return one(browserSession{value, ends}, err)
}

// tokenSession is the caller whose browser has a session begun with a token.
func (s *Server) tokenSession(ctx context.Context, hash []byte) (caller, error) {
	t, err := s.Store.TokenBySession(ctx, hash)
	c := callerOf(t, hash)
	c.browser, c.who = true, "a session of "+c.who
	return c, err
}
