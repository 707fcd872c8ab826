package admin

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"sallyport/control"
)

const tokenPrefix = "sp_"

// NewToken makes the text of an API token: "sp_" and 32 random bytes in base64url.
func NewToken() string {
	var random [32]byte
	rand.Read(random[:]) // never fails
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(random[:])
}

// IsToken reports whether text has the form of what NewToken makes.
func IsToken(text string) bool {
	encoded, found := strings.CutPrefix(text, tokenPrefix)
	random, err := base64.RawURLEncoding.DecodeString(encoded)
	return found && err == nil && len(random) == 32
}

// HashToken is what is stored of a token. A plain hash is enough for a value
// that is random and 256 bits long; to be found by it takes the whole value.
func HashToken(text string) []byte {
	hash := sha256.Sum256([]byte(text))
	return hash[:]
}

// authorize lets a request through if whoever asks may do it. A team that a caller
// has no role in does not exist.
func (s *Server) authorize(ctx huma.Context, next func(huma.Context)) {
	if err := s.admit(ctx); err != nil {
		_, w := humago.Unwrap(ctx)
		writeProblem(w, s.problem(ctx.Context(), err))
		return
	}
	next(ctx)
}

func (s *Server) admit(ctx huma.Context) error {
	rec, op := recordOf(ctx.Context()), ctx.Operation()
	if fromElsewhere(rec.request) {
		return control.Errorf(control.CodeForbidden, "the admin API is for programs and its own console: a page of another origin asks")
	}
	if openToAll[op.OperationID] {
		return s.strange(rec.request)
	}
	c := &rec.caller
	var err error
	if *c, err = s.caller(ctx); err != nil {
		return err
	}
	warnOfExpiry(rec.writer.Header(), *c)
	if strings.HasPrefix(op.Path, "/v1/teams/{team}") {
		if c.team, err = s.team(ctx, *c); err != nil {
			return err
		}
		c.role = c.in(c.team.Name)
	} else {
		c.role = c.highest()
	}
	if err := checkNames(ctx); err != nil {
		return err
	}
	least, known := leastRoles[op.OperationID]
	if !known || rank(c.role) < rank(least) {
		return control.Errorf(control.CodeForbidden, "%s has the role %s; this needs %s", c.who, c.role, least)
	}
	if everyTeam[op.OperationID] && rank(c.in("")) < rank(least) {
		return control.Errorf(control.CodeForbidden, "%s is for the team %s; this needs the role %s of every team", c.who, c.teams(), least)
	}
	return nil
}

// fromElsewhere reports whether a page of another origin has a browser ask, as the browser
// says (Fetch Metadata). It can read no answer; but what it asks is not to be counted as
// tries of who sits at that address, and could keep them from logging in.
func fromElsewhere(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	return site == "cross-site" || site == "same-site"
}

// bearer is the token of a request, "" if it has none.
func bearer(ctx huma.Context) string {
	scheme, text, _ := strings.Cut(ctx.Header("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || !strings.HasPrefix(text, tokenPrefix) {
		return ""
	}
	return text
}

// caller finds out whose token a request has. Tries with others are paced by where
// they come from; a token that was good not long ago is looked at whatever else
// comes from there.
func (s *Server) caller(ctx huma.Context) (caller, error) {
	text := bearer(ctx)
	r := recordOf(ctx.Context()).request
	if text == "" {
		if err := s.strange(r); err != nil {
			return caller{}, err
		}
		return caller{}, control.Errorf(control.CodeUnauthorized, "send an API token as Authorization: Bearer sp_…")
	}
	hash := HashToken(text)
	if !s.callers.knows(string(hash)) {
		if l := s.strangers.of(addressOf(r)); l.Tokens() < 1 {
			return caller{}, tooMany(l, "too many requests from your address had no good token: wait, or find out which program sends them")
		}
	}
	found, err := s.find(ctx.Context(), text, hash)
	if code := control.CodeOf(err); code == control.CodeUnauthorized || code == control.CodeNotFound {
		if tooOften := s.strange(r); tooOften != nil {
			err = tooOften
		}
		return caller{}, err
	}
	if err != nil {
		return caller{}, err
	}
	// By what it is, since whoever has a token or logs in can begin sessions; and by what
	// was sent, which is known by that from here on.
	for _, who := range []string{found.id, string(hash)} {
		if l := s.callers.of(who); !l.Allow() {
			return caller{}, tooMany(l, "too many requests with this token: at most %v a second over time, and %d at once", l.Limit(), l.Burst())
		}
	}
	return found, nil
}

// find gives whose token or session it is.
func (s *Server) find(ctx context.Context, text string, hash []byte) (caller, error) {
	if strings.HasPrefix(text, sessionPrefix) {
		l, err := s.Store.SessionByHash(ctx, hash)
		if control.CodeOf(err) == control.CodeUnauthorized {
			return s.tokenSession(ctx, hash)
		}
		return callerOfSession(l, hash), err
	}
	t, err := s.Store.TokenByHash(ctx, hash)
	return callerOf(t, hash), err
}

// strange counts a request that has no good token.
func (s *Server) strange(r *http.Request) error {
	if l := s.strangers.of(addressOf(r)); !l.Allow() {
		return tooMany(l, "too many requests from your address had no good token: wait, or find out which program sends them")
	}
	return nil
}

func (s *Server) team(ctx huma.Context, c caller) (control.Team, error) {
	name := ctx.Param("team")
	missing := control.Errorf(control.CodeNotFound, "there is no team %q", name)
	if control.CheckName("team", name) != nil || rank(c.in(name)) == 0 {
		return control.Team{}, missing
	}
	team, err := s.Store.Team(ctx.Context(), name)
	if control.CodeOf(err) == control.CodeNotFound {
		return control.Team{}, missing
	}
	return team, err
}

// checkNames refuses what can't be a name before the database sees it.
func checkNames(ctx huma.Context) error {
	for _, p := range ctx.Operation().Parameters {
		if p.In == "path" && control.CheckName(p.Name, ctx.Param(p.Name)) != nil {
			return control.Errorf(control.CodeNotFound, "there is no such %s", p.Name)
		}
	}
	return nil
}
