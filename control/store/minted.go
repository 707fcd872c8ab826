package store

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"sallyport/control"
)

// Kept is a version's secret and what was minted of it last, sealed under one data key.
type Kept struct {
	Key    control.WrappedKey // the data key; it is not stored
	Secret control.SealedSecret
	Minted control.SealedSecret // no Ciphertext: nothing was
	Expiry time.Time            // of Minted
}

// lockPatience bounds the wait for another who is at the same secret.
const lockPatience = "5s"

// Alone calls use while nobody else is at the current version of a credential, and
// stores what it returns before Alone returns. It is CodeNotFound if version is not
// the current one. All that can fail beforehand was done when use is called, so that
// little is left to fail between what use does elsewhere and the commit.
func (s *Store) Alone(ctx context.Context, teamID, credentialID string, version int64, use func(context.Context, Kept) (Kept, error)) error {
	end, ok := s.alone.Take(ctx, teamID)
	if !ok {
		return control.Errorf(control.CodeExchange, "too many exchanges of secrets that are used up are under way: try again")
	}
	defer end()
	return s.inTx(ctx, "begin; set local lock_timeout = '"+lockPatience+"'", teamID, func(tx pgx.Tx) error {
		if err := lockVersion(ctx, tx, "", teamID, credentialID, version); err != nil {
			return err
		}
		// Another statement, which sees what those have done who had the lock before.
		current, err := one(ctx, tx, unbound, scanKept, `
			select k.kek, k.version, k.blob, x.key_version, x.salt, x.commitment, x.ciphertext, x.minted_salt, x.minted_commitment, x.minted, x.minted_expires_at
			from credential_versions x join credentials c on c.id = x.credential_id and c.version = x.version
			join vault_keys k on k.vault_id = x.vault_id and k.version = x.key_version
			where c.team_id = $1 and c.id = $2 and x.version = $3`, teamID, credentialID, version)
		if err != nil {
			return err
		}
		next, err := use(ctx, current)
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `
			update credential_versions set key_version = $4, salt = $5, commitment = $6, ciphertext = $7,
				minted_salt = $8, minted_commitment = $9, minted = $10, minted_expires_at = $11
			where team_id = $1 and credential_id = $2 and version = $3`, teamID, credentialID, version,
			next.Secret.KeyVersion, next.Secret.Salt, next.Secret.Commitment, next.Secret.Ciphertext,
			next.Minted.Salt, next.Minted.Commitment, next.Minted.Ciphertext, orNull(next.Expiry))
		return must(tag, err, "store what was minted", unbound)
	})
}

// lockVersion keeps all others from using up the secret of a version until tx ends.
// wait is "" or "nowait".
func lockVersion(ctx context.Context, tx pgx.Tx, wait, teamID, credentialID string, version int64) error {
	tag, err := tx.Exec(ctx, `select from credential_versions where team_id = $1 and credential_id = $2 and version = $3 for no key update `+wait,
		teamID, credentialID, version)
	return must(tag, err, "have the secret to oneself", unbound)
}

// changeAlone is change when nobody is using up the secrets of a vault's credentials, or
// with a name of one of them, and nobody begins until it is over. Who waits for that holds
// a connection, so few wait at once.
func (s *Store) changeAlone(ctx context.Context, teamID, vault, name string, act control.Event, f func(pgx.Tx) error) (revision int64, err error) {
	end, ok := s.removing.Take(ctx, teamID)
	if !ok {
		return 0, control.Errorf(control.CodeUnavailable, "others are being removed, and wait for exchanges of their secrets: try again")
	}
	defer end()
	return s.changeAfter(ctx, teamID, act, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			select from credential_versions x join credentials c on c.id = x.credential_id join vaults v on v.id = c.vault_id
			where c.team_id = $1 and v.name = $2 and ($3 = '' or c.name = $3) and c.auth = $4 and c.origin_id is null
			order by x.credential_id, x.version for update of x`, teamID, vault, name, control.AuthOAuthRefresh)
		return interpret(err, "wait for exchanges", unbound)
	}, f)
}

// unchanged refuses to go on with a secret that was read before, if an exchange has
// used it up since, or is doing so.
func unchanged(ctx context.Context, tx pgx.Tx, teamID, credentialID string, version int64, read control.SealedSecret) error {
	err := lockVersion(ctx, tx, "nowait", teamID, credentialID, version)
	var pg *pgconn.PgError
	same := false
	switch {
	case errors.As(err, &pg) && pg.Code == lockNotAvailable:
	case err != nil:
		return err
	default:
		if same, err = one(ctx, tx, unbound, pgx.RowTo[bool], `
			select salt = $4 and key_version = $5 from credential_versions where team_id = $1 and credential_id = $2 and version = $3`,
			teamID, credentialID, version, read.Salt, read.KeyVersion); err != nil {
			return err
		}
	}
	if !same {
		return control.Errorf(control.CodeConflict, "the credential's secret is being exchanged for another: try again")
	}
	return nil
}

func scanKept(row pgx.CollectableRow) (k Kept, err error) {
	var expiry *time.Time
	err = row.Scan(&k.Key.KEK, &k.Key.Version, &k.Key.Blob, &k.Secret.KeyVersion, &k.Secret.Salt, &k.Secret.Commitment, &k.Secret.Ciphertext,
		&k.Minted.Salt, &k.Minted.Commitment, &k.Minted.Ciphertext, &expiry)
	if expiry != nil {
		k.Expiry = *expiry
	}
	k.Minted.KeyVersion = k.Secret.KeyVersion
	return k, err
}
