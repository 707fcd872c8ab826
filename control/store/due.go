package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

// due is the condition on a credential c that it is to be rotated.
const due = `(c.rotate_every > 0 and c.origin_id is null and c.rotated_at + c.rotate_every * interval '1 day' <= now())`

// SetRotateEvery says how often a credential is to be rotated, 0 for never, unless may
// refuses what it is until then; nil allows all. Sidecars have nothing to do with it.
func (s *Store) SetRotateEvery(ctx context.Context, teamID, vault, name string, every control.Days, may func(control.Credential) error, act control.Event) (set control.Credential, err error) {
	what := fmt.Sprintf("credential %q in vault %q that was not captured", name, vault)
	err = s.act(ctx, teamID, act, func(tx pgx.Tx) error {
		const row = credentialRows + `where c.team_id = $1 and v.name = $2 and c.name = $3 and c.origin_id is null`
		// A change that comes between is seen by its version of the row, or waits.
		current, err := one(ctx, tx, what, scanCredential, row+` for update of c`, teamID, vault, name)
		if err != nil {
			return err
		}
		if may != nil {
			if err := may(current); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, `update credentials set rotate_every = $3, due_told = 0 where team_id = $1 and id = $2`, teamID, current.ID, every); err != nil {
			return interpret(err, "say how often it is rotated", what)
		}
		set, err = one(ctx, tx, what, scanCredential, row, teamID, vault, name)
		return err
	})
	return set, err
}

// TeamCredentials lists those of every vault of the team, by vault and name, or of them
// those that are to be rotated.
func (s *Store) TeamCredentials(ctx context.Context, teamID string, onlyDue bool, page Page) (credentials []control.Credential, next string, err error) {
	vault, name, _ := strings.Cut(page.After, "/")
	credentials, err = all(ctx, s.in(teamID), "credentials", scanCredential,
		credentialRows+`where c.team_id = $1 and (v.name, c.name) > ($2, $3) and (not $4 or `+due+`) order by v.name, c.name limit $5`,
		teamID, vault, name, onlyDue, page.limit())
	credentials, next = cut(page, credentials, func(c control.Credential) string { return c.Vault + "/" + c.Name })
	return credentials, next, err
}

// RemindDue leaves an event for each credential that is due to be rotated, once for a
// version, and counts those that are; teams without one are left out.
func (s *Store) RemindDue(ctx context.Context) (all []control.Overdue, err error) {
	err = s.eachTeam(ctx, func(team control.Team) error {
		n, err := s.remindDue(ctx, team.ID)
		if n > 0 {
			all = append(all, control.Overdue{Team: team.Name, Count: n})
		}
		if control.CodeOf(err) == control.CodeNotFound { // the team went meanwhile
			return nil
		}
		return err
	})
	return all, err
}

func (s *Store) remindDue(ctx context.Context, teamID string) (overdue int, err error) {
	err = s.in(teamID).QueryRow(ctx, `select count(*) from credentials c where c.team_id = $1 and `+due, teamID).Scan(&overdue)
	if err != nil || overdue == 0 {
		return 0, interpret(err, "count what is due", "such team")
	}
	return overdue, s.inTx(ctx, "begin", teamID, func(tx pgx.Tx) error {
		// The rows that another replica tells of are locked, or told of by then.
		told, err := all(ctx, tx, "what is due", pgx.RowToStructByPos[reminder], `
			with untold as (
				select c.id from credentials c where c.team_id = $1 and `+due+` and c.due_told < c.version order by c.id for no key update skip locked
			)
			update credentials c set due_told = c.version from untold u, vaults v where c.id = u.id and v.id = c.vault_id
			returning v.name || '/' || c.name, c.version, c.rotate_every`, teamID)
		if err != nil || len(told) == 0 {
			return err
		}
		// In one piece: leases wait for the head of the chain meanwhile.
		h, err := lockHead(ctx, tx, teamID)
		if err != nil {
			return err
		}
		records := make([]record, len(told))
		for i, r := range told {
			records[i].Event = control.Event{
				Kind: "credential.due", Actor: "system", Credential: r.Credential, Version: r.Version,
				Detail: fmt.Sprintf("to be rotated every %s", r.Every),
			}
		}
		return h.append(ctx, tx, records)
	})
}

type reminder struct {
	Credential string
	Version    int64
	Every      control.Days
}
