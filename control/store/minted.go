package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

// Kept is a version's secret and what was minted of it last, sealed under one data key.
type Kept struct {
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
	select {
	case s.alone <- struct{}{}:
		defer func() { <-s.alone }()
	case <-ctx.Done():
		return control.Errorf(control.CodeUnavailable, "too many exchanges of secrets that are used up are under way: try again")
	}
	return s.inTx(ctx, "begin; set local lock_timeout = '"+lockPatience+"'", teamID, func(tx pgx.Tx) error {
		current, err := one(ctx, tx, unbound, scanKept, `
			select x.key_version, x.salt, x.commitment, x.ciphertext, x.minted_salt, x.minted_commitment, x.minted, x.minted_expires_at
			from credential_versions x join credentials c on c.id = x.credential_id and c.version = x.version
			where c.team_id = $1 and c.id = $2 and x.version = $3 for no key update of x`, teamID, credentialID, version)
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

func scanKept(row pgx.CollectableRow) (k Kept, err error) {
	var expiry *time.Time
	err = row.Scan(&k.Secret.KeyVersion, &k.Secret.Salt, &k.Secret.Commitment, &k.Secret.Ciphertext,
		&k.Minted.Salt, &k.Minted.Commitment, &k.Minted.Ciphertext, &expiry)
	if expiry != nil {
		k.Expiry = *expiry
	}
	k.Minted.KeyVersion = k.Secret.KeyVersion
	return k, err
}
