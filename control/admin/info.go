package admin

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/control"
	"sallyport/control/registry"
)

// info is what the control plane says of itself and of the token.
type info struct {
	Version    string       `json:"version"`
	SidecarURL string       `json:"sidecar_url"`
	Team       string       `json:"team" doc:"The caller's, of several the first; empty: every team"`
	Role       control.Role `json:"role" doc:"The caller's, of several the highest"`
	Token      string       `json:"token" doc:"The token's name; empty for a person"`

	Grants    []control.Grant `json:"grants" doc:"The caller's roles"`
	Person    *control.Person `json:"person,omitempty" doc:"Who you are, if you have logged in"`
	CodesTo   string          `json:"credential_redirect_uri,omitempty" doc:"Where the web console takes the codes of credentials' logins"`
	ExpiresAt *time.Time      `json:"expires_at,omitempty" doc:"When the token ends"`
}

func (s *Server) infoRoutes(api huma.API) {
	route(s, api, huma.Operation{
		OperationID: "get-info", Method: http.MethodGet, Path: "/v1/info", Summary: "What this is, and who the token says you are",
	}, func(ctx context.Context, _ *struct{}) (*answer[info], error) {
		c := recordOf(ctx).caller
		said := info{Version: s.Version, SidecarURL: s.SidecarURL, Role: c.role, Token: c.token, Grants: c.grants, CodesTo: s.CodesTo, ExpiresAt: c.expires}
		if c.session != nil {
			said.Person = &c.session.Person
		}
		if !c.every() {
			said.Team = c.grants[0].Team
		}
		return &answer[info]{said}, nil
	})
	route(s, api, huma.Operation{
		OperationID: "list-services", Method: http.MethodGet, Path: "/v1/services", Summary: "Services whose hosts and rules are known",
	}, func(_ context.Context, in *PageQuery) (*answer[list[registry.Service]], error) {
		page, next := s.services(in.Limit, in.from)
		return items(page, next, nil)
	})
}

// services gives one page of the registry, which is sorted by name.
func (s *Server) services(limit int, after string) (page []registry.Service, next string) {
	rest := s.Services.Services()
	start, found := slices.BinarySearchFunc(rest, after, func(e registry.Service, name string) int { return strings.Compare(e.Name, name) })
	if found {
		start++
	}
	rest = rest[start:]
	if len(rest) <= limit {
		return rest, ""
	}
	return rest[:limit], rest[limit-1].Name
}

func serveHealth(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Write([]byte("ok\n"))
}
