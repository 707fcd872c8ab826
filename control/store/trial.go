package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

// BeginTrial records act, a use of a credential by the control plane itself, and
// takes one request of its budget. It is CodeConflict if there is another version
// now, if the credential has expired, or if the budget is used up.
func (s *Store) BeginTrial(ctx context.Context, teamID string, c control.Credential, act control.Event) error {
	return s.act(ctx, teamID, act, func(tx pgx.Tx) error {
		_, err := one(ctx, tx, "such version of the credential", pgx.RowTo[int64], `
			select c.version from credentials c where c.team_id = $1 and c.id = $2 and c.version = $3 and c.origin_id is null and `+unexpired+` for share of c`,
			teamID, c.ID, c.Version)
		if control.CodeOf(err) == control.CodeNotFound {
			return control.Errorf(control.CodeConflict, "the credential %s/%s was rotated or removed, or has expired, meanwhile", c.Vault, c.Name)
		}
		if err != nil || c.Limits.Budget.Requests == 0 {
			return err
		}
		usage, now, err := lockUsage(ctx, tx, teamID, c.ID, c.Limits)
		if err != nil {
			return err
		}
		if _, budget := usage.Allot(c.Limits, control.Ask{Budget: 1}, now); budget.Requests == 0 {
			return control.Errorf(control.CodeConflict, "the budget of the credential %s/%s, %s, is used up", c.Vault, c.Name, c.Limits.Budget)
		}
		_, err = tx.Exec(ctx, `update credential_usage set began_at = $2, spent = $3 where credential_id = $1`, c.ID, usage.Begin, usage.Spent)
		return interpret(err, "count the request", "such credential")
	})
}

// outcomeTimeout bounds the recording of an outcome.
const outcomeTimeout = 10 * time.Second

// EndTrial records what came of it, even for a caller that has gone.
func (s *Store) EndTrial(ctx context.Context, teamID string, outcome control.Event) error {
	// The idempotency key is that of BeginTrial's event.
	ctx = WithoutOnce(context.WithoutCancel(ctx))
	ctx, cancel := context.WithTimeout(ctx, outcomeTimeout)
	defer cancel()
	return s.inTx(ctx, "begin", teamID, func(tx pgx.Tx) error { return appendEvent(ctx, tx, teamID, record{Event: outcome}) })
}
