package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

// CreateVault makes a vault with its first data key. Its ID is the caller's
// (NewID), since the key is sealed to it.
func (s *Store) CreateVault(ctx context.Context, teamID string, v control.Vault, key control.WrappedKey, act control.Event) (control.Vault, error) {
	doing, what := fmt.Sprintf("create vault %q", v.Name), "such team"
	err := s.act(ctx, teamID, act, func(tx pgx.Tx) error {
		if err := room(ctx, tx, teamID, "vaults"); err != nil {
			return err
		}
		err := tx.QueryRow(ctx, `insert into vaults (id, team_id, name) values ($1, $2, $3) returning created_at`,
			v.ID, teamID, v.Name).Scan(&v.CreatedAt)
		if err != nil {
			return interpret(err, doing, what)
		}
		_, err = tx.Exec(ctx, `insert into vault_keys (team_id, vault_id, version, kek, blob) values ($1, $2, $3, $4, $5)`,
			teamID, v.ID, key.Version, key.KEK, key.Blob)
		return interpretWrap(err, doing)
	})
	return v, err
}

// Vault gives the team's vault of that name.
func (s *Store) Vault(ctx context.Context, teamID, name string) (control.Vault, error) {
	return one(ctx, s.in(teamID), fmt.Sprintf("vault %q", name), pgx.RowToStructByPos[control.Vault],
		`select id, name, created_at from vaults where team_id = $1 and name = $2`, teamID, name)
}

// Vaults lists by name.
func (s *Store) Vaults(ctx context.Context, teamID string, page Page) (vaults []control.Vault, next string, err error) {
	vaults, err = all(ctx, s.in(teamID), "vaults", pgx.RowToStructByPos[control.Vault],
		`select id, name, created_at from vaults where team_id = $1 and name > $2 order by name limit $3`, teamID, page.After, page.limit())
	vaults, next = cut(page, vaults, func(v control.Vault) string { return v.Name })
	return vaults, next, err
}

// DeleteVault deletes a vault with its credentials and pins, and its data key,
// without which no copy of its secrets opens.
func (s *Store) DeleteVault(ctx context.Context, teamID, name string, act control.Event) (revision int64, err error) {
	what := fmt.Sprintf("vault %q", name)
	return s.changeAlone(ctx, teamID, name, "", act, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `delete from vaults where team_id = $1 and name = $2`, teamID, name)
		return must(tag, err, "delete "+what, what)
	})
}

// VaultKey gives the data key that new secrets of the vault are sealed under.
func (s *Store) VaultKey(ctx context.Context, teamID, vaultID string) (control.WrappedKey, error) {
	return one(ctx, s.in(teamID), "such vault", pgx.RowToStructByPos[control.WrappedKey],
		`select kek, version, blob from vault_keys where team_id = $1 and vault_id = $2 order by version desc limit 1`, teamID, vaultID)
}
