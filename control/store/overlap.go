package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

const (
	// overlapping is the condition on a credential c that the version before the
	// current one is still good.
	overlapping = `(c.overlap_version = c.version - 1 and c.overlap_until > now())`
	// overlapColumns are what an overlapRow reads of a credential c.
	overlapColumns = `case when ` + overlapping + ` then c.overlap_version end, case when ` + overlapping + ` then c.overlap_until end`
)

// atVersion is the condition on a credential c that a version of it may be used.
func atVersion(version string) string {
	return `(c.version = ` + version + ` or c.overlap_version = ` + version + ` and ` + overlapping + `)`
}

// overlapRow is what overlapColumns give.
type overlapRow struct {
	version *int64
	until   *time.Time
}

func (r overlapRow) read() *control.Overlap {
	if r.version == nil || r.until == nil {
		return nil
	}
	return &control.Overlap{Version: *r.version, Until: *r.until}
}

// RotateOverlapping is RotateCredential, after which the version before stays good for
// a while, 0 for none. One that was good beside that is so no more.
func (s *Store) RotateOverlapping(ctx context.Context, teamID, credentialID string, expectVersion int64, secret control.SealedSecret, overlap time.Duration, act control.Event) (version, revision int64, err error) {
	return s.newVersion(ctx, teamID, credentialID, expectVersion, secret, true, act, func(tx pgx.Tx) error {
		if err := keptHere(ctx, tx, teamID, credentialID); err != nil || overlap <= 0 {
			return err
		}
		tag, err := tx.Exec(ctx, `update credentials set overlap_version = $3, overlap_until = now() + $4 where team_id = $1 and id = $2 and origin_id is null`,
			teamID, credentialID, expectVersion, overlap)
		return must(tag, err, "keep the version before", "such credential that was not captured")
	})
}

// EndOverlap ends the use of the version before the current one, which it gives, and the
// act tells. It is CodeNotFound if that has ended.
func (s *Store) EndOverlap(ctx context.Context, teamID, vault, name string, act control.Event) (version int64, err error) {
	what := fmt.Sprintf("overlap of versions of credential %q in vault %q now", name, vault)
	err = s.inTx(ctx, "begin", teamID, func(tx pgx.Tx) error {
		if _, err := bump(ctx, tx, teamID); err != nil {
			return err
		}
		version, err = one(ctx, tx, what, pgx.RowTo[int64], `
			update credentials c set overlap_version = null, overlap_until = null from vaults v
			where v.id = c.vault_id and c.team_id = $1 and v.name = $2 and c.name = $3 and `+overlapping+` returning c.version - 1`, teamID, vault, name)
		if err != nil {
			return err
		}
		act.Credential, act.Version = vault+"/"+name, version
		return appendEvent(ctx, tx, teamID, record{Event: act})
	})
	return version, err
}
