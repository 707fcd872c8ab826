package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

// counted are the kinds of things that a team may have so many of, each with what
// counts them. A sandbox is counted while its certificate may still be renewed, or its
// join token used.
var counted = map[string]string{
	"vaults":      `select count(*) from vaults where team_id = $1`,
	"credentials": `select count(*) from credentials where team_id = $1 and origin_id is null`,
	"agents":      `select count(*) from agents where team_id = $1`,
	"sandboxes": `select count(*) from sandboxes where team_id = $1 and (
		state = 'enrolled' and coalesce(last_seen_at, enrolled_at) > now() - interval '25 hours' or state = 'pending' and created_at > now() - interval '5 minutes')`,
	"tokens":  `select count(*) from tokens where team_id = $1 and (expires_at is null or expires_at > now())`,
	"events":  `select ` + eventsToday + ` from audit_heads h where team_id = $1`,
	"fetches": `select ` + fetchesNow + ` from audit_heads h where team_id = $1`,
}

// quotaRows is read into control.Amounts.
const quotaRows = `
	select coalesce(q.vaults, $2), coalesce(q.credentials, $3), coalesce(q.agents, $4), coalesce(q.sandboxes, $5), coalesce(q.tokens, $6),
		coalesce(q.events, $7), coalesce(q.fetches, $8)
	from teams t left join quotas q on q.team_id = t.id where t.id = $1`

// limits is what the team may have.
func limits(ctx context.Context, q querier, teamID string) (control.Amounts, error) {
	usual := control.UsualQuota
	return one(ctx, q, "such team", pgx.RowToStructByPos[control.Amounts], quotaRows,
		teamID, usual.Vaults, usual.Credentials, usual.Agents, usual.Sandboxes, usual.Tokens, usual.Events, usual.Fetches)
}

// room is CodeQuota unless the team may have one more of a kind. Those who make things
// in one team take turns from here on, by the lock of the team's row, as changes do; so
// two of them never take the last place.
func room(ctx context.Context, tx pgx.Tx, teamID, kind string) error {
	if _, err := one(ctx, tx, "such team", pgx.RowTo[string], `select id from teams where id = $1 for no key update`, teamID); err != nil {
		return err
	}
	may, err := limits(ctx, tx, teamID)
	if err != nil {
		return err
	}
	has, err := one(ctx, tx, kind, pgx.RowTo[int64], counted[kind], teamID)
	if err != nil {
		return err
	}
	if most := *amount(&may, kind); has >= most {
		return control.Errorf(control.CodeQuota, "the team has %d %s and may have %d: remove some, or ask an owner of every team for more (sallyport quota set --%s N)", has, kind, most, kind)
	}
	return nil
}

// amount is the place of a kind in a.
func amount(a *control.Amounts, kind string) *int64 {
	return map[string]*int64{
		"vaults": &a.Vaults, "credentials": &a.Credentials, "agents": &a.Agents, "sandboxes": &a.Sandboxes, "tokens": &a.Tokens,
		"events": &a.Events, "fetches": &a.Fetches,
	}[kind]
}

// Quota gives what a team may have, and has.
func (s *Store) Quota(ctx context.Context, teamID string) (control.Quota, error) {
	var q control.Quota
	err := s.inTx(ctx, readOnly, teamID, func(tx pgx.Tx) (err error) {
		q, err = quota(ctx, tx, teamID)
		return err
	})
	return q, err
}

func quota(ctx context.Context, tx pgx.Tx, teamID string) (q control.Quota, err error) {
	if q.Limits, err = limits(ctx, tx, teamID); err != nil {
		return q, err
	}
	for kind, sql := range counted {
		if *amount(&q.Used, kind), err = one(ctx, tx, kind, pgx.RowTo[int64], sql, teamID); err != nil {
			return q, err
		}
	}
	return q, nil
}

// SetQuota changes what a team may have, unless may refuses what it may have until
// then; nil allows all. What it has beyond that it keeps.
func (s *Store) SetQuota(ctx context.Context, teamID string, c control.QuotaChange, may func(control.Amounts) error, act control.Event) (control.Quota, error) {
	var q control.Quota
	err := s.act(ctx, teamID, act, func(tx pgx.Tx) error {
		if _, err := one(ctx, tx, "such team", pgx.RowTo[string], `select id from teams where id = $1 for no key update`, teamID); err != nil {
			return err
		}
		current, err := limits(ctx, tx, teamID)
		if err != nil {
			return err
		}
		if may != nil {
			if err := may(current); err != nil {
				return err
			}
		}
		// Of a kind that is changed: null below 0; of another what there is.
		_, err = tx.Exec(ctx, `
			insert into quotas as q (team_id, vaults, credentials, agents, sandboxes, tokens, events, fetches)
			values ($1, nullif($2::bigint, -1), nullif($3::bigint, -1), nullif($4::bigint, -1), nullif($5::bigint, -1),
				nullif($6::bigint, -1), nullif($7::bigint, -1), nullif($8::bigint, -1))
			on conflict (team_id) do update set
				vaults = case when $2::bigint is null then q.vaults else excluded.vaults end,
				credentials = case when $3::bigint is null then q.credentials else excluded.credentials end,
				agents = case when $4::bigint is null then q.agents else excluded.agents end,
				sandboxes = case when $5::bigint is null then q.sandboxes else excluded.sandboxes end,
				tokens = case when $6::bigint is null then q.tokens else excluded.tokens end,
				events = case when $7::bigint is null then q.events else excluded.events end,
				fetches = case when $8::bigint is null then q.fetches else excluded.fetches end`,
			teamID, atLeast(c.Vaults), atLeast(c.Credentials), atLeast(c.Agents), atLeast(c.Sandboxes), atLeast(c.Tokens), atLeast(c.Events), atLeast(c.Fetches))
		if err != nil {
			return interpret(err, "set the quota", "such team")
		}
		q, err = quota(ctx, tx, teamID)
		return err
	})
	return q, err
}

// atLeast is n, or -1 for all that is below 0.
func atLeast(n *int64) *int64 {
	if n == nil {
		return nil
	}
	least := max(*n, -1)
	return &least
}
