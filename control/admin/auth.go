package admin

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
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

// caller is whose token it is, and what it is about.
type caller struct {
	control.Token
	team control.Team // of the path, if it has one
}

// authorize lets a request through if its token may do what it asks for. A team
// that the token is not for does not exist.
func (s *Server) authorize(ctx huma.Context, next func(huma.Context)) {
	if err := s.admit(ctx); err != nil {
		_, w := humago.Unwrap(ctx)
		writeProblem(w, s.problem(ctx.Context(), err))
		return
	}
	next(ctx)
}

func (s *Server) admit(ctx huma.Context) error {
	c := &recordOf(ctx.Context()).caller
	var err error
	if c.Token, err = s.token(ctx); err != nil {
		return err
	}
	op := ctx.Operation()
	inTeam := strings.HasPrefix(op.Path, "/v1/teams/{team}")
	if inTeam {
		if c.team, err = s.team(ctx, c.Token); err != nil {
			return err
		}
	}
	if err := checkNames(ctx); err != nil {
		return err
	}
	least, known := leastRoles[op.OperationID]
	if !known || rank(c.Role) < rank(least) {
		return control.Errorf(control.CodeForbidden, "the token %q has the role %s; this needs %s", c.Name, c.Role, least)
	}
	if everyTeam[op.OperationID] && c.Team != "" {
		return control.Errorf(control.CodeForbidden, "the token %q is for the team %s; this needs one for every team", c.Name, c.Team)
	}
	return nil
}

func (s *Server) token(ctx huma.Context) (control.Token, error) {
	scheme, text, _ := strings.Cut(ctx.Header("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || !strings.HasPrefix(text, tokenPrefix) {
		return control.Token{}, control.Errorf(control.CodeUnauthorized, "send an API token as Authorization: Bearer sp_…")
	}
	token, err := s.Store.TokenByHash(ctx.Context(), HashToken(text))
	if code := control.CodeOf(err); code == control.CodeUnauthorized || code == control.CodeNotFound {
		return control.Token{}, control.Errorf(control.CodeUnauthorized, "the API token is unknown, or has expired")
	}
	return token, err
}

func (s *Server) team(ctx huma.Context, token control.Token) (control.Team, error) {
	name := ctx.Param("team")
	missing := control.Errorf(control.CodeNotFound, "there is no team %q", name)
	if token.Team != "" && token.Team != name || control.CheckName("team", name) != nil {
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
