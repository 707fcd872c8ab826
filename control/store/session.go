package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

const sessionRows = `select id, issuer, subject, email, grants, created_at, last_used_at, expires_at, '', false from sessions `

const (
	// isLive is the condition on a session that it is good.
	isLive = `expires_at > now() and last_used_at > now() - idle`
	// maxSessions of one person; the oldest go for new ones.
	maxSessions = 20
)

// CreateSession makes a session for p, whose value has that SHA-256. It ends after
// lifetime, or once it was not used for idle.
func (s *Store) CreateSession(ctx context.Context, p control.Person, hash []byte, idle, lifetime time.Duration, act control.Event) (control.Session, error) {
	var created control.Session
	err := s.act(ctx, "", act, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `delete from sessions where not (`+isLive+`)`); err != nil {
			return interpret(err, "delete old sessions", "")
		}
		id := NewID()
		_, err := tx.Exec(ctx, `
			insert into sessions (id, hash, issuer, subject, email, grants, idle, expires_at) values ($1, $2, $3, $4, $5, $6, $7, now() + $8::interval)`,
			id, hash, p.Issuer, p.Subject, p.Email, p.Grants, idle, lifetime)
		if err != nil {
			return interpret(err, "create the session", "")
		}
		_, err = tx.Exec(ctx, `
			delete from sessions where issuer = $1 and subject = $2 and id not in (
				select id from sessions where issuer = $1 and subject = $2 order by id desc limit $3)`, p.Issuer, p.Subject, maxSessions)
		if err != nil {
			return interpret(err, "delete the oldest sessions", "")
		}
		created, err = one(ctx, tx, "such session", pgx.RowToStructByPos[control.Session], sessionRows+`where id = $1`, id)
		return err
	})
	return created, err
}

// SessionByHash gives the session with that value, and notes that it was used. It is
// CodeUnauthorized for one that is unknown or over.
func (s *Store) SessionByHash(ctx context.Context, hash []byte) (control.Session, error) {
	found, err := one(ctx, s.in(installation), "such session", pgx.RowToStructByPos[control.Session], sessionRows+`where hash = $1 and `+isLive, hash)
	if control.CodeOf(err) == control.CodeNotFound {
		err = control.Errorf(control.CodeUnauthorized, "the session is over: log in again")
	}
	if err != nil {
		return found, err
	}
	if time.Since(found.LastUsedAt) < time.Minute {
		return found, nil
	}
	_, err = s.in(installation).Exec(ctx, `update sessions set last_used_at = now() where id = $1 and last_used_at < now() - interval '1 minute'`, found.ID)
	return found, interpret(err, "note the session's use", "such session")
}
