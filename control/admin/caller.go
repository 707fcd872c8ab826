package admin

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"sallyport/control"
)

// caller is who asks, and what about.
type caller struct {
	who     string // for messages
	actor   string // for audit
	hash    []byte // SHA-256 of what was sent to say so
	id      string // of the token or person, whichever session it is
	grants  []control.Grant
	expires *time.Time
	token   string // the API token's name, if it is one
	session *control.Session
	browser bool // it is a session that was begun with the token

	role control.Role // for this request
	team control.Team // of the path, if it has one
}

func callerOf(t control.Token, hash []byte) caller {
	return caller{
		who: fmt.Sprintf("the token %q", t.Name), actor: tokenActor(t), hash: hash, id: "token " + t.ID, token: t.Name,
		grants: []control.Grant{{Team: t.Team, Role: t.Role}}, expires: t.ExpiresAt,
	}
}

// tokenActor is a token in audit. Each team names its own, and what it did must not pass
// for an act of the installation's of the same name.
func tokenActor(t control.Token) string {
	if t.Team == "" {
		return "token:" + t.Name
	}
	return "token:" + t.Team + "/" + t.Name
}

// in is the caller's role in a team, or with "" in every team; "" if there is none.
func (c caller) in(team string) (role control.Role) {
	for _, g := range c.grants {
		if (g.Team == "" || g.Team == team) && rank(g.Role) > rank(role) {
			role = g.Role
		}
	}
	return role
}

// highest is the caller's role in the team where it is the highest.
func (c caller) highest() (role control.Role) {
	for _, g := range c.grants {
		if rank(g.Role) > rank(role) {
			role = g.Role
		}
	}
	return role
}

// every reports whether the caller has a role in every team.
func (c caller) every() bool { return c.in("") != "" }

// teams names the teams that the caller has a role in.
func (c caller) teams() string {
	if c.every() {
		return "every team"
	}
	names := make([]string, len(c.grants))
	for i, g := range c.grants {
		names[i] = g.Team
	}
	return strings.Join(names, ", ")
}

const (
	// expiryHeader says in every answer when the caller's token ends, once that is near.
	expiryHeader = "Sallyport-Token-Expires"
	expiresSoon  = 7 * 24 * time.Hour
)

func warnOfExpiry(h http.Header, c caller) {
	if c.expires != nil && time.Until(*c.expires) < expiresSoon {
		h.Set(expiryHeader, c.expires.UTC().Format(time.RFC3339))
	}
}
