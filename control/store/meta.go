package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

// GetMeta gives a value of the installation, CodeNotFound if it was never set.
func (s *Store) GetMeta(ctx context.Context, key string) ([]byte, error) {
	return one(ctx, s.in(installation), fmt.Sprintf("value %q", key), pgx.RowTo[[]byte], `select value from meta where key = $1`, key)
}

// SetMetaIfAbsent sets a value once and gives the one that is set, whoever was first.
func (s *Store) SetMetaIfAbsent(ctx context.Context, key string, value []byte) ([]byte, error) {
	if _, err := s.in(installation).Exec(ctx, `insert into meta (key, value) values ($1, $2) on conflict do nothing`, key, value); err != nil {
		return nil, interpret(err, fmt.Sprintf("set value %q", key), "")
	}
	return s.GetMeta(ctx, key)
}

// ReplaceMeta puts value in the place of old, CodeConflict if that is not there.
func (s *Store) ReplaceMeta(ctx context.Context, key string, old, value []byte, act control.Event) error {
	return s.act(ctx, "", act, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `update meta set value = $3 where key = $1 and value = $2`, key, old, value)
		if err != nil {
			return interpret(err, fmt.Sprintf("set value %q", key), "")
		}
		if tag.RowsAffected() == 0 {
			return control.Errorf(control.CodeConflict, "value %q was changed at the same time: try again", key)
		}
		return nil
	})
}
