package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

// Whose says whose sessions are meant.
type Whose struct {
	Everybody bool
	Person    control.Person // the zero one: nobody's
	// Asks is the SHA-256 of what was sent by whoever asks. If it is an API token, or a
	// session begun with one, those begun with that token are meant too.
	Asks []byte
}

// listed is a session of either kind, as it is read for a list.
type listed struct {
	ID                              string
	Issuer, Subject, Email          string
	Grants                          []control.Grant
	CreatedAt, LastUsedAt, ExpireAt time.Time
	TokenHash                       []byte // nil: a person's
	Current                         bool   // it is what asks
}

// Sessions lists the live ones, the newest first. Those begun with a token that is not
// good any more are over, and left out; so a page may be short.
func (s *Store) Sessions(ctx context.Context, of Whose, page Page) (sessions []control.Session, next string, err error) {
	after, err := newest(page)
	if err != nil {
		return nil, "", err
	}
	tokens, err := s.valuesOf(ctx, of)
	if err != nil {
		return nil, "", err
	}
	rows, err := all(ctx, s.in(installation), "sessions", pgx.RowToStructByPos[listed], `
		select id, issuer, subject, email, grants, created_at, last_used_at, expires_at, null::bytea, coalesce(hash = $5, false) from sessions
		where `+isLive+` and ($6 or issuer = $1 and subject = $2) and id < $3
		union all
		select id, '', '', '', '[]', created_at, last_used_at, expires_at, token_hash, coalesce(hash = $5, false) from token_sessions
		where `+isLive+` and ($6 or token_hash = any($7)) and id < $3
		order by 1 desc limit $4`, of.Person.Issuer, of.Person.Subject, after, page.limit(), of.Asks, of.Everybody, tokens)
	if err != nil {
		return nil, "", err
	}
	sessions = []control.Session{}
	rows, next = cut(page, rows, func(l listed) string { return l.ID })
	known := map[string]*control.Token{}
	for _, l := range rows {
		session := control.Session{
			ID: l.ID, Person: control.Person{Issuer: l.Issuer, Subject: l.Subject, Email: l.Email, Grants: l.Grants},
			CreatedAt: l.CreatedAt, LastUsedAt: l.LastUsedAt, ExpiresAt: l.ExpireAt, Current: l.Current,
		}
		if l.TokenHash != nil {
			t, err := s.tokenOf(ctx, l.TokenHash, known)
			if err != nil {
				return nil, "", err
			}
			if t == nil {
				continue
			}
			session.Token, session.Grants = t.Name, []control.Grant{{Team: t.Team, Role: t.Role}}
			if t.ExpiresAt != nil && t.ExpiresAt.Before(session.ExpiresAt) {
				session.ExpiresAt = *t.ExpiresAt
			}
		}
		sessions = append(sessions, session)
	}
	return sessions, next, nil
}

// tokenOf gives the token that has that value, nil if it is not good any more. It is no
// use of the token.
func (s *Store) tokenOf(ctx context.Context, hash []byte, known map[string]*control.Token) (*control.Token, error) {
	if t, found := known[string(hash)]; found {
		return t, nil
	}
	found, err := all(ctx, s.byToken(hash), "the session's token", pgx.RowToStructByPos[control.Token], tokenRows+goodToken, hash)
	if err != nil {
		return nil, err
	}
	known[string(hash)] = nil
	if len(found) == 1 {
		known[string(hash)] = &found[0]
	}
	return known[string(hash)], nil
}

// valuesOf are the SHA-256 of the values that the token of whoever asks has.
func (s *Store) valuesOf(ctx context.Context, of Whose) ([][]byte, error) {
	if of.Everybody || len(of.Asks) == 0 {
		return nil, nil
	}
	own, err := all(ctx, s.in(installation), "the session", pgx.RowTo[[]byte], `select token_hash from token_sessions where hash = $1`, of.Asks)
	if err != nil {
		return nil, err
	}
	value := of.Asks
	if len(own) == 1 {
		value = own[0]
	}
	return all(ctx, s.byToken(value), "the token's values", pgx.RowTo[[]byte], `
		select v from tokens k, unnest(array[k.hash, k.previous_hash]) v
		where (k.hash = $1 or k.previous_hash = $1 and k.previous_until > now()) and v is not null`, value)
}

// DeleteSession ends a session at once, if it is of those.
func (s *Store) DeleteSession(ctx context.Context, of Whose, id string, act control.Event) error {
	tokens, err := s.valuesOf(ctx, of)
	if err != nil {
		return err
	}
	return s.act(ctx, "", act, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `delete from sessions where id = $3 and ($4 or issuer = $1 and subject = $2)`, of.Person.Issuer, of.Person.Subject, id, of.Everybody)
		if err == nil && tag.RowsAffected() == 0 {
			tag, err = tx.Exec(ctx, `delete from token_sessions where id = $1 and ($2 or token_hash = any($3))`, id, of.Everybody, tokens)
		}
		return must(tag, err, "end the session", "such session")
	})
}
