package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

const (
	tokenColumns = `k.id, k.name, coalesce(t.name, ''), k.role, k.created_at, k.expires_at, k.last_used_at, k.rotated_at,
		case when k.previous_until > now() then k.previous_until end`
	tokenRows = `select ` + tokenColumns + ` from tokens k left join teams t on t.id = k.team_id `
	// goodToken is the condition on a token k that it is good, and has the value whose SHA-256 is $1.
	goodToken = `where (k.hash = $1 or k.previous_hash = $1 and k.previous_until > now()) and (k.expires_at is null or k.expires_at > now())`
)

// usedWithin is how exactly the last use of a token is known: to write it down at
// every use would cost more than the use.
const usedWithin = 5 * time.Minute

// CreateToken makes an API token with t's name, role and expiry; hash is the
// SHA-256 of its value. teamID "" makes one for every team.
func (s *Store) CreateToken(ctx context.Context, teamID string, t control.Token, hash []byte, act control.Event) (control.Token, error) {
	var created control.Token
	err := s.act(ctx, teamID, act, func(tx pgx.Tx) error {
		if teamID != "" {
			if err := room(ctx, tx, teamID, "tokens"); err != nil {
				return err
			}
		}
		id, what := NewID(), fmt.Sprintf("token %q", t.Name)
		_, err := tx.Exec(ctx, `insert into tokens (id, team_id, name, role, hash, expires_at) values ($1, nullif($2, '')::uuid, $3, $4, $5, $6)`,
			id, teamID, t.Name, t.Role, hash, t.ExpiresAt)
		if err != nil {
			return interpret(err, "create "+what, "such team")
		}
		created, err = one(ctx, tx, what, pgx.RowToStructByPos[control.Token], tokenRows+`where k.id = $1`, id)
		return err
	})
	return created, err
}

// presented is a token that somebody has sent.
type presented struct {
	control.Token
	TeamID string
	Unseen bool // for so long that its last use is to be written down
}

// TokenByHash gives the token with that value, or with that value until it was rotated
// not long ago, and notes that it was used. It is CodeUnauthorized for one that is
// unknown or expired.
func (s *Store) TokenByHash(ctx context.Context, hash []byte) (control.Token, error) {
	t, err := one(ctx, s.byToken(hash), "such token", pgx.RowToStructByPos[presented], `
		select `+tokenColumns+`, coalesce(k.team_id::text, ''), k.last_used_at is null or k.last_used_at < now() - $2::interval
		from tokens k left join teams t on t.id = k.team_id
		`+goodToken, hash, usedWithin)
	if control.CodeOf(err) == control.CodeNotFound {
		err = control.Errorf(control.CodeUnauthorized, "the API token is unknown or has expired: use another, or ask an owner for one")
	}
	if err != nil || !t.Unseen {
		return t.Token, err
	}
	_, err = s.in(orInstallation(t.TeamID)).Exec(ctx, `update tokens set last_used_at = now() where id = $1`, t.ID)
	return t.Token, interpret(err, "note the token's use", "such token")
}

// RotateToken gives a token another value, whose SHA-256 is hash, and an end at
// expires, nil for none. The value it has is good for overlap more, and that before it
// no longer.
func (s *Store) RotateToken(ctx context.Context, teamID, name string, hash []byte, overlap time.Duration, expires func(control.Token) (*time.Time, error), act control.Event) (control.Token, error) {
	what := fmt.Sprintf("token %q", name)
	var rotated control.Token
	err := s.act(ctx, teamID, act, func(tx pgx.Tx) error {
		current, err := one(ctx, tx, what, pgx.RowToStructByPos[control.Token],
			tokenRows+`where k.team_id is not distinct from nullif($1, '')::uuid and k.name = $2 for update of k`, teamID, name)
		if err != nil {
			return err
		}
		end, err := expires(current)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			update tokens set hash = $2, expires_at = $3, rotated_at = now(),
				previous_hash = case when $4::interval > '0' then hash end, previous_until = case when $4::interval > '0' then now() + $4::interval end
			where id = $1`, current.ID, hash, end, overlap)
		if err != nil {
			return interpret(err, "rotate the "+what, what)
		}
		rotated, err = one(ctx, tx, what, pgx.RowToStructByPos[control.Token], tokenRows+`where k.id = $1`, current.ID)
		return err
	})
	return rotated, err
}

// Tokens lists by name. teamID "" lists those for every team.
func (s *Store) Tokens(ctx context.Context, teamID string, page Page) (tokens []control.Token, next string, err error) {
	tokens, err = all(ctx, s.in(orInstallation(teamID)), "tokens", pgx.RowToStructByPos[control.Token],
		tokenRows+`where k.team_id is not distinct from nullif($1, '')::uuid and k.name > $2 order by k.name limit $3`, teamID, page.After, page.limit())
	tokens, next = cut(page, tokens, func(t control.Token) string { return t.Name })
	return tokens, next, err
}

// DeleteToken deletes a token. teamID "" is for those for every team; of those,
// the last owner's is not deleted (CodeConflict): nobody could make another.
func (s *Store) DeleteToken(ctx context.Context, teamID, name string, act control.Event) error {
	what := fmt.Sprintf("token %q", name)
	return s.act(ctx, teamID, act, func(tx pgx.Tx) error {
		if teamID == "" {
			if err := refuseLastOwner(ctx, tx, name); err != nil {
				return err
			}
		}
		tag, err := tx.Exec(ctx, `delete from tokens where team_id is not distinct from nullif($1, '')::uuid and name = $2`, teamID, name)
		return must(tag, err, "delete "+what, what)
	})
}

// refuseLastOwner locks what it counts, so that two don't delete each other's successor.
func refuseLastOwner(ctx context.Context, tx pgx.Tx, name string) error {
	owners, err := all(ctx, tx, "tokens", pgx.RowTo[string], `
		select name from tokens
		where team_id is null and role = 'owner' and (expires_at is null or expires_at > now()) order by id for update`)
	if err != nil {
		return err
	}
	if len(owners) == 1 && owners[0] == name {
		return control.Errorf(control.CodeConflict, "the token %q is the last owner's token for every team: make another before you remove it", name)
	}
	return nil
}
