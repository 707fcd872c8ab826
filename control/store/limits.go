package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

// limitColumns are what scanLimits reads of a credential c, or of its origin o if it
// was captured: the limits of one hold for all that came of it.
const limitColumns = `coalesce(o.limits, c.limits), case when o.id is null then c.ends_at else o.ends_at end`

// unexpired is the condition on a credential c that its limits, or its origin's,
// don't say that it has expired.
const unexpired = `not exists (select from credentials e where e.id in (c.id, c.origin_id) and e.ends_at <= now())`

// stored is the limits as they are stored, beside when they end.
func stored(l control.Limits) control.Limits {
	l.ExpiresAt = nil
	return l
}

// SetLimits gives a credential the limits that change makes of those it has, in
// running sandboxes too, unless may refuses what it is until then; nil allows all.
// Those of a captured one are its origin's.
func (s *Store) SetLimits(ctx context.Context, teamID, vault, name string, may func(control.Credential) error, change func(control.Limits) (control.Limits, error), act control.Event) (set control.Credential, err error) {
	what := fmt.Sprintf("credential %q in vault %q that was not captured", name, vault)
	err = s.inTx(ctx, "begin", teamID, func(tx pgx.Tx) error {
		if _, err := bump(ctx, tx, teamID); err != nil {
			return err
		}
		const row = credentialRows + `where c.team_id = $1 and v.name = $2 and c.name = $3 and c.origin_id is null`
		if set, err = one(ctx, tx, what, scanCredential, row, teamID, vault, name); err != nil {
			return err
		}
		if may != nil {
			if err := may(set); err != nil {
				return err
			}
		}
		limits, err := change(set.Limits)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `update credentials set limits = $3, ends_at = $4 where team_id = $1 and id = $2`,
			teamID, set.ID, stored(limits), limits.ExpiresAt); err != nil {
			return interpret(err, "store the limits", what)
		}
		if set, err = one(ctx, tx, what, scanCredential, row, teamID, vault, name); err != nil {
			return err
		}
		act.Detail = vault + "/" + name + ": " + limits.String()
		return appendEvent(ctx, tx, teamID, record{Event: act})
	})
	return set, err
}

// Share is what a sandbox wants of what a credential's limits allow.
type Share struct {
	TeamID, SandboxID, CredentialID string
	Version                         int64
	control.Ask
}

// Allot takes a share of the rate and the budget, after checking again what Bound
// checks. The count and the event of what was taken of the budget commit together:
// only then may it be used.
func (s *Store) Allot(ctx context.Context, ask Share) (rate, budget control.Allotment, err error) {
	err = s.inTx(ctx, "begin", ask.TeamID, func(tx pgx.Tx) error {
		agent, err := enrolled(ctx, tx, "for share of s", ask.TeamID, ask.SandboxID)
		if err != nil {
			return err
		}
		name, err := boundName(ctx, tx, ask.TeamID, ask.SandboxID, ask.CredentialID, ask.Version)
		if err != nil {
			return err
		}
		c, err := one(ctx, tx, unbound, scanCredential, credentialRows+`where c.team_id = $1 and c.id = $2`, ask.TeamID, ask.CredentialID)
		if err != nil {
			return err
		}
		account := c.ID
		if c.Captured != nil {
			account = c.Captured.OriginID
		}
		usage, now, err := lockUsage(ctx, tx, ask.TeamID, account, c.Limits)
		if err != nil {
			return err
		}
		rate, budget = usage.Allot(c.Limits, ask.Ask, now)
		if _, err := tx.Exec(ctx, `
			update credential_usage set began_at = $2, spent = $3, rate = $4, tokens = $5, filled_at = $6 where credential_id = $1`,
			account, usage.Begin, usage.Spent, usage.Rate, usage.Tokens, usage.FilledAt); err != nil {
			return interpret(err, "count what was allotted", unbound)
		}
		if budget.Requests == 0 {
			return nil
		}
		return appendEvent(ctx, tx, ask.TeamID, record{Event: control.Event{
			Kind: "allot", Actor: "sandbox:" + ask.SandboxID, Agent: agent, Sandbox: ask.SandboxID, Credential: name, Version: ask.Version,
			Detail: fmt.Sprintf("%d requests; %d of %s are spent", budget.Requests, usage.Spent, c.Limits.Budget),
		}})
	})
	return rate, budget, err
}

// lockUsage gives a credential's usage, which nobody else changes until tx ends,
// and the time after that was had. A new one's bucket is full.
func lockUsage(ctx context.Context, tx pgx.Tx, teamID, credentialID string, l control.Limits) (u control.Usage, now time.Time, err error) {
	_, err = tx.Exec(ctx, `
		insert into credential_usage (credential_id, team_id, began_at, filled_at) values ($1, $2, $3, clock_timestamp())
		on conflict (credential_id) do nothing`, credentialID, teamID, l.Budget.Period.Begin(time.Time{}))
	if err != nil {
		return u, now, interpret(err, "count what is allotted", unbound)
	}
	err = tx.QueryRow(ctx, `select began_at, spent, rate, tokens, filled_at from credential_usage where credential_id = $1 for update`, credentialID).
		Scan(&u.Begin, &u.Spent, &u.Rate, &u.Tokens, &u.FilledAt)
	if err == nil {
		err = tx.QueryRow(ctx, `select clock_timestamp()`).Scan(&now)
	}
	return u, now, interpret(err, "read what was allotted", unbound)
}

// Usage is what was allotted of a credential's budget in this period.
func (s *Store) Usage(ctx context.Context, teamID string, c control.Credential) (spent int64, err error) {
	if c.Limits.Budget.Requests == 0 {
		return 0, nil
	}
	account := c.ID
	if c.Captured != nil {
		account = c.Captured.OriginID
	}
	var u control.Usage
	var now time.Time
	err = s.in(teamID).QueryRow(ctx, `
		select coalesce(max(began_at), '0001-01-01Z'), coalesce(max(spent), 0), clock_timestamp() from credential_usage where team_id = $1 and credential_id = $2`,
		teamID, account).Scan(&u.Begin, &u.Spent, &now)
	if err != nil {
		return 0, interpret(err, "read what was allotted", "such credential")
	}
	return u.SpentAt(c.Limits.Budget, now), nil
}
