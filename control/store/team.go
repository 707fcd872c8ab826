package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

const teamColumns = "id, name, created_at, audit"

// CreateTeam makes a team, whose first event is act.
func (s *Store) CreateTeam(ctx context.Context, name string, act control.Event) (control.Team, error) {
	var team control.Team
	id := NewID()
	err := s.inTx(ctx, "begin", id, func(tx pgx.Tx) (err error) {
		team, err = one(ctx, tx, fmt.Sprintf("team %q", name), pgx.RowToStructByPos[control.Team],
			`insert into teams (id, name) values ($1, $2) returning `+teamColumns, id, name)
		if err != nil {
			return err
		}
		if _, err = tx.Exec(ctx, `insert into audit_heads (team_id) values ($1)`, id); err != nil {
			return interpret(err, "begin the team's audit", "")
		}
		return appendEvent(ctx, tx, id, record{Event: act})
	})
	return team, err
}

// Team gives the team of that name.
func (s *Store) Team(ctx context.Context, name string) (control.Team, error) {
	return one(ctx, s.in(installation), fmt.Sprintf("team %q", name), pgx.RowToStructByPos[control.Team],
		`select `+teamColumns+` from teams where name = $1`, name)
}

// TeamsNamed lists those of the names that there are, by name.
func (s *Store) TeamsNamed(ctx context.Context, names []string, page Page) (teams []control.Team, next string, err error) {
	teams, err = all(ctx, s.in(installation), "teams", pgx.RowToStructByPos[control.Team],
		`select `+teamColumns+` from teams where name = any($1) and name > $2 order by name limit $3`, names, page.After, page.limit())
	teams, next = cut(page, teams, func(t control.Team) string { return t.Name })
	return teams, next, err
}

// Teams lists by name.
func (s *Store) Teams(ctx context.Context, page Page) (teams []control.Team, next string, err error) {
	teams, err = all(ctx, s.in(installation), "teams", pgx.RowToStructByPos[control.Team],
		`select `+teamColumns+` from teams where name > $1 order by name limit $2`, page.After, page.limit())
	teams, next = cut(page, teams, func(t control.Team) string { return t.Name })
	return teams, next, err
}

// SetTeamAudit changes the team's audit mode, in running sandboxes too, and gives
// the revision that has it, unless may refuses what the team is until then; nil
// allows all.
func (s *Store) SetTeamAudit(ctx context.Context, teamID string, mode control.AuditMode, may func(control.Team) error, act control.Event) (revision int64, err error) {
	return s.change(ctx, teamID, act, func(tx pgx.Tx) error {
		current, err := one(ctx, tx, "such team", pgx.RowToStructByPos[control.Team], `select `+teamColumns+` from teams where id = $1`, teamID)
		if err != nil {
			return err
		}
		if may != nil {
			if err := may(current); err != nil {
				return err
			}
		}
		tag, err := tx.Exec(ctx, `update teams set audit = $2 where id = $1`, teamID, mode)
		return must(tag, err, "change the team's audit mode", "such team")
	})
}
