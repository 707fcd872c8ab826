package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

// CreateTokenSession makes a session that is what an API token is, as long as that value
// of the token is good. hash is the SHA-256 of the session's value, tokenHash that of the
// token's. It ends after lifetime, or once it was not used for idle.
func (s *Store) CreateTokenSession(ctx context.Context, tokenHash, hash []byte, idle, lifetime time.Duration, act control.Event) (ends time.Time, err error) {
	err = s.act(ctx, "", act, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `delete from token_sessions where not (`+isLive+`)`); err != nil {
			return interpret(err, "delete old sessions", "")
		}
		ends, err = one(ctx, tx, "such session", pgx.RowTo[time.Time], `
			insert into token_sessions (id, hash, token_hash, idle, expires_at) values ($1, $2, $3, $4, now() + $5::interval) returning expires_at`,
			NewID(), hash, tokenHash, idle, lifetime)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			delete from token_sessions where token_hash = $1 and hash not in (
				select hash from token_sessions where token_hash = $1 order by created_at desc, hash = $2 desc limit $3)`, tokenHash, hash, maxSessions)
		return interpret(err, "delete the oldest sessions", "")
	})
	return ends, err
}

// TokenBySession gives the token whose session has that value, and notes that it was
// used. Its ExpiresAt is that of the session, if that comes first. It is CodeUnauthorized
// where either is unknown or over.
func (s *Store) TokenBySession(ctx context.Context, hash []byte) (control.Token, error) {
	type session struct {
		TokenHash          []byte
		LastUsed, ExpireAt time.Time
	}
	found, err := one(ctx, s.in(installation), "such session", pgx.RowToStructByPos[session],
		`select token_hash, last_used_at, expires_at from token_sessions where hash = $1 and `+isLive, hash)
	if control.CodeOf(err) == control.CodeNotFound {
		err = control.Errorf(control.CodeUnauthorized, "the session is over: log in again")
	}
	if err != nil {
		return control.Token{}, err
	}
	t, err := s.TokenByHash(ctx, found.TokenHash)
	if err != nil {
		return t, err
	}
	if t.ExpiresAt == nil || found.ExpireAt.Before(*t.ExpiresAt) {
		t.ExpiresAt = &found.ExpireAt
	}
	if time.Since(found.LastUsed) < time.Minute {
		return t, nil
	}
	_, err = s.in(installation).Exec(ctx, `update token_sessions set last_used_at = now() where hash = $1 and last_used_at < now() - interval '1 minute'`, hash)
	return t, interpret(err, "note the session's use", "such session")
}

// DeleteTokenSession ends a session at once.
func (s *Store) DeleteTokenSession(ctx context.Context, hash []byte, act control.Event) error {
	return s.act(ctx, "", act, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `delete from token_sessions where hash = $1`, hash)
		return must(tag, err, "end the session", "such session")
	})
}
