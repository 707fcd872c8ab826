package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"sallyport/control"
)

// keyBatch is how many keys or secrets are read at once to be rewritten.
const keyBatch = 100

// ErrKeyReplaced says that a secret was sealed under a data key that has been
// replaced meanwhile: seal it again, under the one that VaultKey gives now.
var ErrKeyReplaced = control.Errorf(control.CodeConflict, "the vault's data key was replaced at the same time: try again")

// StartKeyRotation begins a rotation to the key-encryption key with that id. One
// that is under way, and does as much, is given instead.
func (s *Store) StartKeyRotation(ctx context.Context, kek string, newDataKeys bool, act control.Event) (control.KeyRotation, error) {
	var r control.KeyRotation
	err := s.act(ctx, "", act, func(tx pgx.Tx) error {
		// After everybody who wraps a data key and has not seen this rotation.
		if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock(hashtextextended('sallyport key rotation', 0))`); err != nil {
			return interpret(err, "wait for data keys to be stored", "")
		}
		var err error
		r, err = one(ctx, tx, "key rotation", scanKeyRotation, keyRotationRows)
		if err == nil && r.FinishedAt == nil && r.KEK == kek && (r.NewDataKeys || !newDataKeys) {
			return nil
		}
		if err != nil && control.CodeOf(err) != control.CodeNotFound {
			return err
		}
		r, err = one(ctx, tx, "key rotation", scanKeyRotation,
			`insert into key_rotations (id, kek, new_data_keys) values ($1, $2, $3) returning id, kek, new_data_keys, started_at, finished_at`, NewID(), kek, newDataKeys)
		return err
	})
	return r, err
}

const keyRotationRows = `select id, kek, new_data_keys, started_at, finished_at from key_rotations order by started_at desc limit 1`

func scanKeyRotation(row pgx.CollectableRow) (r control.KeyRotation, err error) {
	return r, row.Scan(&r.ID, &r.KEK, &r.NewDataKeys, &r.StartedAt, &r.FinishedAt)
}

// KeyRotation gives the newest rotation, CodeNotFound if there was none. It does
// not count what remains.
func (s *Store) KeyRotation(ctx context.Context) (control.KeyRotation, error) {
	return one(ctx, s.in(installation), "key rotation", scanKeyRotation, keyRotationRows)
}

// FinishKeyRotation notes that nothing remains of it.
func (s *Store) FinishKeyRotation(ctx context.Context, id string, act control.Event) error {
	return s.act(ctx, "", act, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `update key_rotations set finished_at = now() where id = $1 and finished_at is null`, id)
		return must(tag, err, "finish the key rotation", "such key rotation")
	})
}

// HoldKeyRotation makes sure that one process at a time works on rotations. held
// is false if another does. release, which is never nil, lets others.
func (s *Store) HoldKeyRotation(ctx context.Context) (release func(), held bool, err error) {
	conn, err := pgx.ConnectConfig(ctx, s.pool.Config().ConnConfig)
	if err != nil {
		return func() {}, false, interpret(err, "connect to the database", "")
	}
	release = func() { conn.Close(context.WithoutCancel(ctx)) } // which drops the lock
	err = conn.QueryRow(ctx, `select pg_try_advisory_lock(hashtextextended('sallyport key rotation at work', 0))`).Scan(&held)
	return release, held, interpret(err, "lock key rotations", "")
}

// KeysToRewrap gives some of the team's data keys that r has still to wrap.
func (s *Store) KeysToRewrap(ctx context.Context, teamID string, r control.KeyRotation) ([]control.DataKey, error) {
	return all(ctx, s.in(teamID), "data keys", scanDataKey, `
		select vault_id, kek, version, blob from vault_keys
		where team_id = $1 and (wrapped_at < $2 or kek <> $3) limit $4`, teamID, r.StartedAt, r.KEK, keyBatch)
}

func scanDataKey(row pgx.CollectableRow) (k control.DataKey, err error) {
	return k, row.Scan(&k.Vault, &k.KEK, &k.Version, &k.Blob)
}

// RewrapKey puts wrapped in the place of old, if that is there still.
func (s *Store) RewrapKey(ctx context.Context, teamID string, r control.KeyRotation, old control.DataKey, wrapped control.WrappedKey) error {
	_, err := s.in(teamID).Exec(ctx, `
		update vault_keys set kek = $5, blob = $6, wrapped_at = greatest(clock_timestamp(), $7)
		where team_id = $1 and vault_id = $2 and version = $3 and blob = $4`,
		teamID, old.Vault, old.Version, old.Blob, wrapped.KEK, wrapped.Blob, r.StartedAt)
	return interpretWrap(err, "store a data key")
}

// KeysToReplace gives the newest data keys of some of the team's vaults for which
// r has still to make one.
func (s *Store) KeysToReplace(ctx context.Context, teamID string, r control.KeyRotation) ([]control.DataKey, error) {
	return all(ctx, s.in(teamID), "data keys", scanDataKey, `
		select vault_id, kek, version, blob from vault_keys k
		where team_id = $1 and created_at < $2 and not exists (select from vault_keys n where n.vault_id = k.vault_id and n.version > k.version)
		limit $3`, teamID, r.StartedAt, keyBatch)
}

// AddDataKey adds a version of a vault's data key, which new secrets are sealed
// under from then on. One that is there already stays.
func (s *Store) AddDataKey(ctx context.Context, teamID string, r control.KeyRotation, vaultID string, key control.WrappedKey) error {
	_, err := s.in(teamID).Exec(ctx, `
		insert into vault_keys (team_id, vault_id, version, kek, blob, created_at, wrapped_at)
		select team_id, id, $3, $4, $5, greatest(clock_timestamp(), $6), greatest(clock_timestamp(), $6) from vaults where team_id = $1 and id = $2
		on conflict do nothing`, teamID, vaultID, key.Version, key.KEK, key.Blob, r.StartedAt)
	return interpretWrap(err, "store a data key")
}

// Reseal is a version of a secret under an old data key of its vault.
type Reseal struct {
	Identity control.SecretIdentity
	Key      control.WrappedKey
	Secret   control.SealedSecret
	Next     control.WrappedKey // to be sealed under
}

// SecretsToReseal gives some of the team's secrets that are not sealed under the
// newest data key of their vault.
func (s *Store) SecretsToReseal(ctx context.Context, teamID string) ([]Reseal, error) {
	return all(ctx, s.in(teamID), "secrets", func(row pgx.CollectableRow) (r Reseal, err error) {
		return r, row.Scan(&r.Identity.Team, &r.Identity.Vault, &r.Identity.Credential, &r.Identity.Version, &r.Identity.Field,
			&r.Key.KEK, &r.Key.Version, &r.Key.Blob, &r.Next.KEK, &r.Next.Version, &r.Next.Blob,
			&r.Secret.KeyVersion, &r.Secret.Salt, &r.Secret.Commitment, &r.Secret.Ciphertext)
	}, `
		select x.team_id, x.vault_id, x.id, x.version, x.field, k.kek, k.version, k.blob, n.kek, n.version, n.blob,
			x.key_version, x.salt, x.commitment, x.ciphertext
		from (
			select x.team_id, x.vault_id, x.credential_id as id, x.version, case when c.source_id is null then $3 else $4 end as field,
				x.key_version, x.salt, x.commitment, x.ciphertext
			from credential_versions x join credentials c on c.id = x.credential_id where x.team_id = $1
			union all
			select team_id, vault_id, id, version, $5, key_version, salt, commitment, ciphertext from sources where team_id = $1
		) x
		join vault_keys k on k.vault_id = x.vault_id and k.version = x.key_version
		join vault_keys n on n.vault_id = x.vault_id and n.version > x.key_version
			and not exists (select from vault_keys m where m.vault_id = n.vault_id and m.version > n.version)
		limit $2`, teamID, keyBatch, control.FieldSecret, control.FieldDigest, control.FieldSource)
}

// ResealSecret puts secret in the place of old, if that is there still.
func (s *Store) ResealSecret(ctx context.Context, old Reseal, secret control.SealedSecret) error {
	id, table := old.Identity, `credential_versions set key_version = $5, salt = $6, commitment = $7, ciphertext = $8 where credential_id = $2`
	if id.Field == control.FieldSource {
		table = `sources set key_version = $5, salt = $6, commitment = $7, ciphertext = $8 where id = $2`
	}
	_, err := s.in(id.Team).Exec(ctx, `update `+table+` and team_id = $1 and version = $3 and salt = $4`,
		id.Team, id.Credential, id.Version, old.Secret.Salt, secret.KeyVersion, secret.Salt, secret.Commitment, secret.Ciphertext)
	return interpret(err, "store a secret anew", "such secret")
}

// DeleteOldKeys deletes the team's data keys that are not the newest of their
// vault and that no secret is sealed under.
func (s *Store) DeleteOldKeys(ctx context.Context, teamID string) error {
	return s.inTx(ctx, "begin", teamID, func(tx pgx.Tx) error {
		// Waits for secrets that are being stored under them, which the next statement
		// sees then; those that come later wait, and find no key.
		_, err := tx.Exec(ctx, `select from vault_keys k where team_id = $1 and `+replaced+` for update`, teamID)
		if err != nil {
			return interpret(err, "lock old data keys", "")
		}
		_, err = tx.Exec(ctx, `
			delete from vault_keys k where team_id = $1 and `+replaced+`
				and not exists (select from credential_versions x where x.vault_id = k.vault_id and x.key_version = k.version)
				and not exists (select from sources o where o.vault_id = k.vault_id and o.key_version = k.version)`, teamID)
		return interpret(err, "delete old data keys", "")
	})
}

// replaced is the condition on a data key k that its vault has a newer one.
const replaced = `exists (select from vault_keys n where n.vault_id = k.vault_id and n.version > k.version)`

// KeyUse counts the data keys of every team by what wraps them, and adds to r,
// unless that is nil, what remains of it.
func (s *Store) KeyUse(ctx context.Context, r *control.KeyRotation) ([]control.KeyUse, error) {
	uses := map[string]int64{}
	err := s.eachTeam(ctx, func(team control.Team) error {
		counts, err := all(ctx, s.in(team.ID), "data keys", pgx.RowToStructByPos[control.KeyUse],
			`select kek, count(*) from vault_keys where team_id = $1 group by kek`, team.ID)
		if err != nil {
			return err
		}
		for _, use := range counts {
			uses[use.KEK] += use.Count
		}
		if r == nil || r.FinishedAt != nil {
			return nil
		}
		remaining, err := one(ctx, s.in(team.ID), "data keys", pgx.RowTo[int64], `
			select (select count(*) from vault_keys where team_id = $1 and (wrapped_at < $2 or kek <> $3))
				+ (select count(*) from credential_versions x join vault_keys k on k.vault_id = x.vault_id and k.version = x.key_version
					where $4 and x.team_id = $1 and k.created_at < $2)
				+ (select count(*) from sources o join vault_keys k on k.vault_id = o.vault_id and k.version = o.key_version
					where $4 and o.team_id = $1 and k.created_at < $2)`, team.ID, r.StartedAt, r.KEK, r.NewDataKeys)
		r.Remaining += remaining
		return err
	})
	list := make([]control.KeyUse, 0, len(uses))
	for kek, count := range uses {
		list = append(list, control.KeyUse{KEK: kek, Count: count})
	}
	slices.SortFunc(list, func(a, b control.KeyUse) int { return int(b.Count - a.Count) })
	return list, err
}

// eachTeam calls f for every team, by name.
func (s *Store) eachTeam(ctx context.Context, f func(control.Team) error) error {
	for page := (Page{Limit: maxLimit}); ; {
		teams, next, err := s.Teams(ctx, page)
		if err != nil {
			return err
		}
		for _, team := range teams {
			if err := f(team); err != nil {
				return err
			}
		}
		if next == "" {
			return nil
		}
		page.After = next
	}
}

// EachTeam calls f with the id of every team.
func (s *Store) EachTeam(ctx context.Context, f func(teamID string) error) error {
	return s.eachTeam(ctx, func(team control.Team) error { return f(team.ID) })
}

// interpretWrap is interpret for what stores a wrapped key, which is refused to a
// process whose key-encryption key has been replaced.
func interpretWrap(err error, doing string) error {
	const notInState = "55000" // object_not_in_prerequisite_state
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == notInState {
		return fmt.Errorf("%w: %w", control.Errorf(control.CodeUnavailable, "%s; start this replica with the key-encryption key of the others", pg.Message), err)
	}
	return interpret(err, doing, "such vault")
}

// interpretSeal is interpret for what stores a sealed secret.
func interpretSeal(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && strings.HasSuffix(pg.ConstraintName, "_vault_id_key_version_fkey") {
		return fmt.Errorf("%w: %w", ErrKeyReplaced, err)
	}
	return err
}
