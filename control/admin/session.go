package admin

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/control"
	"sallyport/control/login"
	"sallyport/control/store"
)

// sessionPrefix begins what a person's programs send; it begins with tokenPrefix.
const sessionPrefix = tokenPrefix + "session_"

func newSessionValue() string {
	var random [32]byte
	rand.Read(random[:]) // never fails
	return sessionPrefix + base64.RawURLEncoding.EncodeToString(random[:])
}

// Lifetimes of sessions where Config has none.
const (
	SessionIdle     = 8 * time.Hour
	SessionLifetime = 24 * time.Hour
)

// callerOfSession is the caller that a person is.
func callerOfSession(l control.Session, hash []byte) caller {
	return caller{
		who: l.Email, actor: personActor(l.Person), hash: hash, id: "person " + l.Issuer + " " + l.Subject, grants: l.Grants, expires: &l.ExpiresAt, session: &l,
	}
}

// personActor is a person in audit: by the address that people know, and by the
// subject, which is never given to another.
func personActor(p control.Person) string { return "person:" + p.Email + "/" + p.Subject }

type sessionPath struct {
	Session string `path:"session" doc:"The session's id, or current"`
}

// proof is what a login ends with: code, code_verifier and redirect_uri, or device_code.
type proof struct {
	Code         string `json:"code,omitempty" maxLength:"4096" doc:"The authorization code"`
	CodeVerifier string `json:"code_verifier,omitempty" maxLength:"128" doc:"Of PKCE (RFC 7636)"`
	RedirectURI  string `json:"redirect_uri,omitempty" maxLength:"512" doc:"http://127.0.0.1:PORT/callback or that of GET /v1/login, as it was"`
	DeviceCode   string `json:"device_code,omitempty" maxLength:"4096" doc:"Of POST /v1/login/device"`
}

// newSession is a session with its value.
type newSession struct {
	control.Session
	Value string `json:"value" doc:"Sent as a token is. Never shown again."`
}

func (s *Server) sessionRoutes(api huma.API) {
	open := []map[string][]string{{}}
	route(s, api, huma.Operation{
		OperationID: "get-login", Method: http.MethodGet, Path: "/v1/login", Security: open,
		Summary: "Where people log in; 404 where they can't",
	}, func(ctx context.Context, _ *struct{}) (*answer[login.Method], error) {
		if s.People == nil {
			return nil, errNoPeople
		}
		return one(s.People.Method(ctx))
	})
	route(s, api, huma.Operation{
		OperationID: "start-device-login", Method: http.MethodPost, Path: "/v1/login/device", Security: open,
		Summary: "Begin a login that is confirmed elsewhere (RFC 8628)",
	}, func(ctx context.Context, _ *struct{}) (*answer[login.Device], error) {
		if s.People == nil {
			return nil, errNoPeople
		}
		return one(s.People.StartDevice(ctx))
	})
	routeBody(s, api, huma.Operation{
		OperationID: "create-session", Method: http.MethodPost, Path: "/v1/sessions", Security: open,
		Summary: "End a login; 503 with Retry-After while nobody has confirmed it",
	}, s.createSession)
	route(s, api, huma.Operation{
		OperationID: "create-token-session", Method: http.MethodPost, Path: "/v1/sessions/token",
		Summary: "Begin a session with an API token, for a browser to keep in the token's place",
	}, s.createTokenSession)
	route(s, api, huma.Operation{
		OperationID: "list-sessions", Method: http.MethodGet, Path: "/v1/sessions",
		Summary: "Your sessions, or those begun with your token; everybody's for an owner of every team",
	}, func(ctx context.Context, in *PageQuery) (*answer[list[control.Session]], error) {
		return items(s.Store.Sessions(ctx, sessionsOf(ctx), in.page()))
	})
	route(s, api, huma.Operation{
		OperationID: "delete-session", Method: http.MethodDelete, Path: "/v1/sessions/{session}",
		Summary: "End a session at once",
	}, s.deleteSession)
}

var errNoPeople = control.Errorf(control.CodeNotFound, "this control plane has no OIDC issuer, so nobody logs in but with an API token")

// sessionsOf is whose sessions the caller may see.
func sessionsOf(ctx context.Context) store.Whose {
	c := recordOf(ctx).caller
	of := store.Whose{Everybody: c.in("") == control.RoleOwner, Asks: c.hash}
	if c.session != nil {
		of.Person = c.session.Person
	}
	return of
}

func (s *Server) createSession(ctx context.Context, _ *struct{}, body *proof) (*answer[newSession], error) {
	if s.People == nil {
		return nil, errNoPeople
	}
	var who control.Person
	var err error
	switch {
	case body.DeviceCode != "" && body.Code == "":
		who, err = s.People.FromDevice(ctx, body.DeviceCode)
	case body.Code != "" && body.DeviceCode == "":
		who, err = s.People.Code(ctx, body.Code, body.CodeVerifier, body.RedirectURI)
	default:
		err = control.Errorf(control.CodeInvalid, "a login ends with code, code_verifier and redirect_uri, or with device_code")
	}
	if errors.Is(err, login.ErrPending) {
		p := newProblem(http.StatusServiceUnavailable, codePending, "nobody has confirmed the login yet: ask again in some seconds")
		p.header = http.Header{"Retry-After": {strconv.Itoa(login.PollSeconds)}}
		return nil, p
	}
	if errors.Is(err, login.ErrSlowDown) {
		p := newProblem(http.StatusTooManyRequests, codeTooMany, "the OIDC issuer wants to be asked less often: wait 5 seconds more from now on")
		p.header = http.Header{"Retry-After": {strconv.Itoa(2 * login.PollSeconds)}}
		return nil, p
	}
	if err != nil {
		return nil, err
	}
	value, rec := newSessionValue(), recordOf(ctx)
	rec.caller.actor = personActor(who)
	made, err := s.Store.CreateSession(ctx, who, HashToken(value), s.SessionIdle, s.SessionLifetime,
		act(ctx, "session.create", fmt.Sprintf("%s of %s: %s", who.Email, who.Issuer, grantsText(who.Grants))))
	if err != nil {
		return nil, err
	}
	return one(newSession{made, value}, nil)
}

func (s *Server) deleteSession(ctx context.Context, in *sessionPath) (*struct{}, error) {
	id, c := in.Session, recordOf(ctx).caller
	switch {
	case id == "current" && c.browser:
		return nil, s.Store.DeleteTokenSession(ctx, c.hash, act(ctx, "session.revoke", "the browser's"))
	case id == "current" && c.session != nil:
		id = c.session.ID
	case id == "current":
		return nil, control.Errorf(control.CodeNotFound, "there is no such session")
	}
	return nil, s.Store.DeleteSession(ctx, sessionsOf(ctx), id, act(ctx, "session.revoke", id))
}

func grantsText(grants []control.Grant) (text string) {
	for i, g := range grants {
		if i > 0 {
			text += ", "
		}
		if g.Team == "" {
			g.Team = "every team"
		}
		text += string(g.Role) + " of " + g.Team
	}
	return text
}
