package store

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

// TestNothingWithoutAnEvent lets the database refuse events, as a full disk or a
// crash between two transactions would: then nothing may have been done either.
func TestNothingWithoutAnEvent(t *testing.T) {
	f := newFixture(t)
	v := f.vault("prod")
	f.vault("spare")
	c := f.credential(v, "stripe", "api.stripe.com")
	f.agent("billing", "prod")
	b := f.sandbox("billing")
	got(f.CreateToken(t.Context(), f.Team.ID, control.Token{Name: "ci", Role: control.RoleAdmin}, hash("ci"), testAct()))(t)
	id := f.Team.ID
	acts := map[string]func(ctx context.Context, act control.Event) error{
		"CreateTeam": func(ctx context.Context, act control.Event) error { _, err := f.CreateTeam(ctx, "x", act); return err },
		"CreateVault": func(ctx context.Context, act control.Event) error {
			_, err := f.CreateVault(ctx, id, control.Vault{ID: NewID(), Name: "x"}, control.WrappedKey{KEK: "k", Version: 1, Blob: []byte("x")}, act)
			return err
		},
		"DeleteVault": func(ctx context.Context, act control.Event) error {
			_, err := f.DeleteVault(ctx, id, "spare", act)
			return err
		},
		"CreateCredential": func(ctx context.Context, act control.Event) error {
			_, _, err := f.CreateCredential(ctx, id, v.ID, credential("x", "x.test"), secret(), act)
			return err
		},
		"RotateCredential": func(ctx context.Context, act control.Event) error {
			_, _, err := f.RotateCredential(ctx, id, c.ID, 1, secret(), act)
			return err
		},
		"RotateOverlapping": func(ctx context.Context, act control.Event) error {
			_, _, err := f.RotateOverlapping(ctx, id, c.ID, 1, secret(), time.Hour, act)
			return err
		},
		"SetRotateEvery": func(ctx context.Context, act control.Event) error {
			_, err := f.SetRotateEvery(ctx, id, "prod", "stripe", 90, nil, act)
			return err
		},
		"BeginTrial": func(ctx context.Context, act control.Event) error { return f.BeginTrial(ctx, id, c, act) },
		"DeleteCredential": func(ctx context.Context, act control.Event) error {
			_, err := f.DeleteCredential(ctx, id, "prod", "stripe", act)
			return err
		},
		"CreateAgent": func(ctx context.Context, act control.Event) error {
			_, err := f.CreateAgent(ctx, id, "x", act)
			return err
		},
		"DeleteAgent": func(ctx context.Context, act control.Event) error {
			_, err := f.DeleteAgent(ctx, id, "billing", act)
			return err
		},
		"Pin": func(ctx context.Context, act control.Event) error {
			_, err := f.Pin(ctx, id, "billing", "spare", act)
			return err
		},
		"Unpin": func(ctx context.Context, act control.Event) error {
			_, err := f.Unpin(ctx, id, "billing", "prod", act)
			return err
		},
		"SetPolicy": func(ctx context.Context, act control.Event) error {
			_, err := f.SetPolicy(ctx, id, "billing", control.Policy{Default: control.ActionDeny}, nil, act)
			return err
		},
		"RevokeSandbox": func(ctx context.Context, act control.Event) error {
			_, err := f.RevokeSandbox(ctx, id, b.ID, act)
			return err
		},
		"CreateSandbox": func(ctx context.Context, act control.Event) error {
			_, err := f.CreateSandbox(ctx, id, "billing", hash("x"), time.Now().Add(time.Hour), act)
			return err
		},
		"CreateToken": func(ctx context.Context, act control.Event) error {
			_, err := f.CreateToken(ctx, id, control.Token{Name: "x", Role: control.RoleViewer}, hash("y"), act)
			return err
		},
		"RotateToken": func(ctx context.Context, act control.Event) error {
			never := func(control.Token) (*time.Time, error) { return nil, nil }
			_, err := f.RotateToken(ctx, id, "ci", hash("z"), time.Hour, never, act)
			return err
		},
		"SetQuota": func(ctx context.Context, act control.Event) error {
			n := int64(7)
			_, err := f.SetQuota(ctx, id, control.QuotaChange{Vaults: &n}, nil, act)
			return err
		},
		"SetMints": func(ctx context.Context, act control.Event) error {
			_, _, err := f.SetMints(ctx, id, "prod", "stripe", nil, nil, act)
			return err
		},
		"DeleteToken": func(ctx context.Context, act control.Event) error { return f.DeleteToken(ctx, id, "ci", act) },
	}
	if _, err := f.pool.Exec(t.Context(), `
		create function refuse() returns trigger language plpgsql as $$ begin raise exception 'no events today'; end $$;
		create trigger refuse before insert on audit_events for each row when (new.kind = 'refused') execute function refuse()`); err != nil {
		t.Fatal(err)
	}
	before := f.rows()
	for name, act := range acts {
		if err := act(t.Context(), control.Event{Kind: "refused"}); err == nil {
			t.Errorf("%s: done without an event", name)
		}
		if after := f.rows(); after != before {
			t.Errorf("%s has changed something:\n%s\n%s", name, before, after)
		}
	}
	for _, name := range []string{"CreateVault", "CreateToken", "Unpin", "DeleteAgent"} {
		if err := acts[name](t.Context(), control.Event{Kind: "act " + name, Actor: "token:x"}); err != nil {
			t.Fatal(err)
		}
		if events, _, err := f.Events(t.Context(), id, Page{Limit: 1}); err != nil || events[0].Kind != "act "+name {
			t.Errorf("%s: the newest event is %+v, %v", name, events, err)
		}
	}
}

// rows is everything that acts change, as text.
func (f *fixture) rows() (all string) {
	f.t.Helper()
	for _, table := range []string{"teams", "vaults", "vault_keys", "credentials", "credential_versions", "agents", "pins", "sandboxes", "join_tokens", "tokens", "quotas", "audit_heads"} {
		rows := got(one(f.t.Context(), f.pool, "rows", pgx.RowTo[string], `select coalesce(string_agg(t::text, ' ' order by t::text), '') from `+table+` t`))(f.t)
		all += fmt.Sprintf("%s: %s\n", table, rows)
	}
	return all
}
