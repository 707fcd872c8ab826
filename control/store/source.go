package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

// maxSources bounds the sources of a team.
const maxSources = 64

// SealedSource is a source with what opens it.
type SealedSource struct {
	Source   control.Source
	Identity control.SecretIdentity
	Key      control.WrappedKey
	Secret   control.SealedSecret
}

// sourceRows is read by scanSource, and, with sealedSource, by scanSealedSource.
const (
	sourceColumns = `o.id, v.name, o.name, o.kind, o.settings, o.version, o.created_at, o.rotated_at`
	sourceTables  = ` from sources o join vaults v on v.id = o.vault_id `
	sealedColumns = `, o.team_id, o.vault_id, k.kek, k.version, k.blob, o.key_version, o.salt, o.commitment, o.ciphertext`
	sealedTables  = sourceTables + `join vault_keys k on k.vault_id = o.vault_id and k.version = o.key_version `
)

func sourceFields(s *control.Source) []any {
	return []any{&s.ID, &s.Vault, &s.Name, &s.Kind, &s.Settings, &s.Version, &s.CreatedAt, &s.RotatedAt}
}

func scanSource(row pgx.CollectableRow) (s control.Source, err error) {
	return s, row.Scan(sourceFields(&s)...)
}

func scanSealedSource(row pgx.CollectableRow) (s SealedSource, err error) {
	return s, s.scan(row)
}

// scan reads s from a row, behind other columns.
func (s *SealedSource) scan(row pgx.CollectableRow, others ...any) error {
	err := row.Scan(append(append(others, sourceFields(&s.Source)...), &s.Identity.Team, &s.Identity.Vault, &s.Key.KEK, &s.Key.Version, &s.Key.Blob,
		&s.Secret.KeyVersion, &s.Secret.Salt, &s.Secret.Commitment, &s.Secret.Ciphertext)...)
	s.Identity.Credential, s.Identity.Version, s.Identity.Field = s.Source.ID, s.Source.Version, control.FieldSource
	return err
}

// CreateSource makes a source with version 1 of what opens it. Its ID is the caller's
// (NewID), since that is sealed to it.
func (s *Store) CreateSource(ctx context.Context, teamID, vaultID string, source control.Source, secret control.SealedSecret, act control.Event) (control.Source, error) {
	err := s.act(ctx, teamID, act, func(tx pgx.Tx) error {
		if _, err := one(ctx, tx, "such team", pgx.RowTo[string], `select id from teams where id = $1 for no key update`, teamID); err != nil {
			return err
		}
		has, err := one(ctx, tx, "sources", pgx.RowTo[int], `select count(*) from sources where team_id = $1`, teamID)
		if err != nil {
			return err
		}
		if has >= maxSources {
			return control.Errorf(control.CodeQuota, "the team has %d sources and may have %d: remove some", has, maxSources)
		}
		_, err = tx.Exec(ctx, `
			insert into sources (id, team_id, vault_id, name, kind, settings, key_version, salt, commitment, ciphertext) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
			source.ID, teamID, vaultID, source.Name, source.Kind, storedSettings(source.Settings), secret.KeyVersion, secret.Salt, secret.Commitment, secret.Ciphertext)
		if err != nil {
			return interpret(interpretSeal(err), fmt.Sprintf("create source %q", source.Name), "such vault")
		}
		source, err = one(ctx, tx, "such source", scanSource, `select `+sourceColumns+sourceTables+`where o.team_id = $1 and o.id = $2`, teamID, source.ID)
		return err
	})
	return source, err
}

func sourceNamed(vault, name string) string { return fmt.Sprintf("source %q in vault %q", name, vault) }

// Source gives the source of that name in the vault of that name, with what opens it.
func (s *Store) Source(ctx context.Context, teamID, vault, name string) (SealedSource, error) {
	return one(ctx, s.in(teamID), sourceNamed(vault, name), scanSealedSource,
		`select `+sourceColumns+sealedColumns+sealedTables+`where o.team_id = $1 and v.name = $2 and o.name = $3`, teamID, vault, name)
}

// Sources lists by name those of the vault of that name.
func (s *Store) Sources(ctx context.Context, teamID, vault string, page Page) (sources []control.Source, next string, err error) {
	if _, err := s.Vault(ctx, teamID, vault); err != nil {
		return nil, "", err
	}
	sources, err = all(ctx, s.in(teamID), "sources", scanSource,
		`select `+sourceColumns+sourceTables+`where o.team_id = $1 and v.name = $2 and o.name > $3 order by o.name limit $4`, teamID, vault, page.After, page.limit())
	sources, next = cut(page, sources, func(s control.Source) string { return s.Name })
	return sources, next, err
}

// RotateSource makes version expectVersion+1 of what opens a source, to which secret
// must have been sealed. It is CodeConflict unless expectVersion is the current one.
func (s *Store) RotateSource(ctx context.Context, teamID, sourceID string, expectVersion int64, secret control.SealedSecret, act control.Event) (source control.Source, err error) {
	err = s.act(ctx, teamID, act, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
			update sources set version = version + 1, rotated_at = now(), key_version = $4, salt = $5, commitment = $6, ciphertext = $7
			where team_id = $1 and id = $2 and version = $3`, teamID, sourceID, expectVersion, secret.KeyVersion, secret.Salt, secret.Commitment, secret.Ciphertext)
		if err != nil {
			return interpret(interpretSeal(err), "rotate the source", "such source")
		}
		if tag.RowsAffected() == 0 {
			return control.Errorf(control.CodeConflict, "the source was rotated or removed at the same time: try again")
		}
		source, err = one(ctx, tx, "such source", scanSource, `select `+sourceColumns+sourceTables+`where o.team_id = $1 and o.id = $2`, teamID, sourceID)
		return err
	})
	return source, err
}

// DeleteSource deletes a source that no credential has its secret in.
func (s *Store) DeleteSource(ctx context.Context, teamID, vault, name string, act control.Event) error {
	what := sourceNamed(vault, name)
	return s.act(ctx, teamID, act, func(tx pgx.Tx) error {
		id, err := one(ctx, tx, what, pgx.RowTo[string], `
			select o.id`+sourceTables+`where o.team_id = $1 and v.name = $2 and o.name = $3 for update of o`, teamID, vault, name)
		if err != nil {
			return err
		}
		users, err := all(ctx, tx, "credentials", pgx.RowTo[string], `select name from credentials where team_id = $1 and source_id = $2 order by name limit 10`, teamID, id)
		if err != nil {
			return err
		}
		if len(users) > 0 {
			return control.Errorf(control.CodeConflict, "credentials have their secrets in the source %s/%s (%s): remove them first", vault, name, strings.Join(users, ", "))
		}
		_, err = tx.Exec(ctx, `delete from sources where team_id = $1 and id = $2`, teamID, id)
		return interpret(err, "delete "+what, what)
	})
}

// readSource reads the source of b, whose Credential is known.
func (b *Bound) readSource(ctx context.Context, q querier, teamID string) error {
	if b.Credential.From == nil {
		return nil
	}
	source, err := one(ctx, q, "the credential's source", scanSealedSource, `select `+sourceColumns+sealedColumns+sealedTables+`
		join credentials c on c.source_id = o.id where c.team_id = $1 and c.id = $2`, teamID, b.Credential.ID)
	b.Source = &source
	return err
}

// setSource says where the secret of a credential lies that is being made.
func setSource(ctx context.Context, tx pgx.Tx, teamID, vaultID string, c control.Credential) error {
	if c.From == nil {
		return nil
	}
	tag, err := tx.Exec(ctx, `
		update credentials c set source_id = o.id, source_place = $4, source_version = $5
		from sources o where c.team_id = $1 and c.id = $2 and o.vault_id = c.vault_id and o.vault_id = $3 and o.name = $6`,
		teamID, c.ID, vaultID, c.From.String(), c.FromVersion, c.From.Source)
	return must(tag, err, "say where the secret lies", sourceNamed(c.Vault, c.From.Source))
}

// RefreshCredential makes version expectVersion+1 of a credential whose secret lies in
// a source and was read there: digest is of that, version the source's name for it, and
// rotated whether it is another. It is CodeConflict unless expectVersion is the current one.
func (s *Store) RefreshCredential(ctx context.Context, teamID, credentialID string, expectVersion int64, digest control.SealedSecret, version string, rotated bool, act control.Event) (made, revision int64, err error) {
	return s.newVersion(ctx, teamID, credentialID, expectVersion, digest, rotated, act, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `update credentials set source_version = $3 where team_id = $1 and id = $2 and source_id is not null`, teamID, credentialID, version)
		return must(tag, err, "refresh the credential", "such credential with its secret in a source")
	})
}

// keptHere refuses to put a secret in the place of one that lies in a source.
func keptHere(ctx context.Context, tx pgx.Tx, teamID, credentialID string) error {
	place, err := one(ctx, tx, "such credential", pgx.RowTo[string], `select coalesce(source_place, '') from credentials where team_id = $1 and id = $2`, teamID, credentialID)
	if err == nil && place != "" {
		err = control.Errorf(control.CodeConflict, "the secret lies in %s: change it there, then say 'sallyport credential refresh', or wait for the next lease", place)
	}
	return err
}
