package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
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
