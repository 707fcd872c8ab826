package store

import (
	"context"
	"encoding/hex"
	"time"

	"github.com/jackc/pgx/v5"
)

// OnceFor is how long an idempotency key is remembered.
const OnceFor = 24 * time.Hour

// Once names a request that is to be done at most once, however often it is sent.
type Once struct {
	Token   []byte // SHA-256 of the token that it is sent with
	Key     []byte // SHA-256 of its idempotency key
	Request []byte // 32 bytes that tell it from other requests
}

type onceKey struct{}

// WithOnce marks ctx: an act that is done with it is done only if none was with the
// same token and key, and CodeConflict otherwise.
func WithOnce(ctx context.Context, o Once) context.Context {
	return context.WithValue(ctx, onceKey{}, o)
}

// WithoutOnce takes the mark away, for an act beside the one that was asked for.
func WithoutOnce(ctx context.Context) context.Context {
	return context.WithValue(ctx, onceKey{}, nil)
}

// claim records in an act's own transaction that it was done. Of two at once the
// second waits here for the first.
func claim(ctx context.Context, tx pgx.Tx) error {
	o, marked := ctx.Value(onceKey{}).(Once)
	if !marked {
		return nil
	}
	var batch pgx.Batch
	batch.Queue(`select set_config('sallyport.token', $1, true)`, hex.EncodeToString(o.Token))
	batch.Queue(`delete from idempotency_keys where created_at < now() - $1::interval`, OnceFor)
	batch.Queue(`insert into idempotency_keys (token_hash, key, request) values ($1, $2, $3)`, o.Token, o.Key, o.Request)
	return interpret(tx.SendBatch(ctx, &batch).Close(), "do what has this idempotency key", "such token")
}

// Done is what was done with a key.
type Done struct {
	Request []byte
	Answer  []byte // nil: not kept yet
}

// Done gives what was done with o's token and key in the last 24 hours.
func (s *Store) Done(ctx context.Context, o Once) (Done, error) {
	return one(ctx, s.byToken(o.Token), "request with such an idempotency key", pgx.RowToStructByPos[Done], `
		select request, answer from idempotency_keys
		where token_hash = $1 and key = $2 and created_at >= now() - $3::interval`, o.Token, o.Key, OnceFor)
}

// KeepAnswer keeps the sealed answer to what was done with o. It does nothing if
// that left no event, and so was not claimed.
func (s *Store) KeepAnswer(ctx context.Context, o Once, sealed []byte) error {
	_, err := s.byToken(o.Token).Exec(ctx, `update idempotency_keys set answer = $3 where token_hash = $1 and key = $2`, o.Token, o.Key, sealed)
	return interpret(err, "keep the answer", "such idempotency key")
}
