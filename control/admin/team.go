package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/control"
)

// TeamPath names a team. Like the other paths it is exported since huma fills only
// exported fields, embedded ones too.
type TeamPath struct {
	Team string `path:"team" doc:"The team's name"`
}

type teamPage struct {
	TeamPath
	PageQuery
}

// named is the body of what only needs a name.
type named struct {
	Name string `json:"name" maxLength:"63" doc:"Lower-case letters, digits, '-', '_' and '.'"`
}

// teamOf is the team of the path, which exists and which the caller may see.
func teamOf(ctx context.Context) control.Team { return recordOf(ctx).caller.team }

func (s *Server) teamRoutes(api huma.API) {
	route(s, api, huma.Operation{
		OperationID: "list-teams", Method: http.MethodGet, Path: "/v1/teams", Summary: "Teams",
	}, s.listTeams)
	routeBody(s, api, huma.Operation{
		OperationID: "create-team", Method: http.MethodPost, Path: "/v1/teams", Summary: "Make a team",
	}, s.createTeam)
	route(s, api, huma.Operation{
		OperationID: "get-team", Method: http.MethodGet, Path: "/v1/teams/{team}", Summary: "A team",
	}, func(ctx context.Context, _ *TeamPath) (*tagged[control.Team], error) {
		return versioned(teamOf(ctx), etag(teamOf(ctx)), nil)
	})
	routeBody(s, api, huma.Operation{
		OperationID: "update-team", Method: http.MethodPatch, Path: "/v1/teams/{team}",
		Summary: "Change a team's settings, in running sandboxes too",
	}, s.updateTeam)
}

func (s *Server) listTeams(ctx context.Context, in *PageQuery) (*answer[list[control.Team]], error) {
	c := recordOf(ctx).caller
	if c.every() {
		return items(s.Store.Teams(ctx, in.page()))
	}
	names := make([]string, len(c.grants))
	for i, g := range c.grants {
		names[i] = g.Team
	}
	return items(s.Store.TeamsNamed(ctx, names, in.page()))
}

func (s *Server) createTeam(ctx context.Context, _ *struct{}, body *named) (*answer[control.Team], error) {
	if err := control.CheckName("team", body.Name); err != nil {
		return nil, err
	}
	return one(s.Store.CreateTeam(ctx, body.Name, act(ctx, "team.create", body.Name)))
}

// teamSettings are what of a team can be changed.
type teamSettings struct {
	Audit control.AuditMode `json:"audit" enum:"best_effort,durable,strict" doc:"Where the intent to use a credential must be before a request goes out"`
}

// teamPatch is what a change of a team names.
type teamPatch struct {
	TeamPath
	IfMatch
}

func (s *Server) updateTeam(ctx context.Context, in *teamPatch, body *teamSettings) (*tagged[control.Team], error) {
	if err := in.required(); err != nil {
		return nil, err
	}
	team := teamOf(ctx)
	unchanged := func(t control.Team) error { return in.check(etag(t)) }
	if _, err := s.Store.SetTeamAudit(ctx, team.ID, body.Audit, unchanged, act(ctx, "team.audit", string(body.Audit))); err != nil {
		return nil, err
	}
	team.Audit = body.Audit
	return versioned(team, etag(team), nil)
}
