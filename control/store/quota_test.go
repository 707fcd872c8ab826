package store

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"sallyport/control"
)

// TestQuotas: of fifty who make things at once exactly as many succeed as the team may
// have, of each kind.
func TestQuotas(t *testing.T) {
	f := newFixture(t)
	ctx, id := t.Context(), f.Team.ID
	v := f.vault("prod")
	f.agent("billing")
	const most, tries = 7, 50
	kinds := map[string]func(i int) error{
		"vaults": func(i int) error {
			_, err := f.CreateVault(ctx, id, control.Vault{ID: NewID(), Name: fmt.Sprint("v", i)}, control.WrappedKey{KEK: "k", Version: 1, Blob: []byte("x")}, testAct())
			return err
		},
		"credentials": func(i int) error {
			_, _, err := f.CreateCredential(ctx, id, v.ID, credential(fmt.Sprint("c", i), fmt.Sprintf("h%d.test", i)), secret(), testAct())
			return err
		},
		"agents": func(i int) error {
			_, err := f.CreateAgent(ctx, id, fmt.Sprint("a", i), testAct())
			return err
		},
		"sandboxes": func(i int) error {
			_, err := f.CreateSandbox(ctx, id, "billing", hash(fmt.Sprint("s", i)), time.Now().Add(time.Hour), testAct())
			return err
		},
		"tokens": func(i int) error {
			_, err := f.CreateToken(ctx, id, control.Token{Name: fmt.Sprint("t", i), Role: control.RoleViewer}, hash(fmt.Sprint("t", i)), testAct())
			return err
		},
	}
	n := int64(most)
	got(f.SetQuota(ctx, id, control.QuotaChange{Vaults: &n, Credentials: &n, Agents: &n, Sandboxes: &n, Tokens: &n}, nil, testAct()))(t)
	for kind, create := range kinds {
		before := got(f.Quota(ctx, id))(t)
		had := *amount(&before.Used, kind)
		errs := make([]error, tries)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() { errs[i] = create(i) })
		}
		wg.Wait()
		var done int64
		for _, err := range errs {
			if err == nil {
				done++
			} else {
				wantCode(t, err, control.CodeQuota, fmt.Sprintf("the team has %d %s and may have %d: remove some", most, kind, most))
			}
		}
		if q := got(f.Quota(ctx, id))(t); had+done != most || *amount(&q.Used, kind) != most || *amount(&q.Limits, kind) != most {
			t.Errorf("%s: %d of %d succeeded beside %d: %+v", kind, done, tries, had, q)
		}
	}
	// What is removed makes room; what is cut off, too; a lower quota takes nothing away.
	if _, err := f.DeleteVault(ctx, id, "prod", testAct()); err != nil {
		t.Fatal(err)
	}
	if err := kinds["vaults"](100); err != nil {
		t.Error(err)
	}
	sandboxes, _, err := f.Sandboxes(ctx, id, Page{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.RevokeSandbox(ctx, id, sandboxes[0].ID, testAct()); err != nil {
		t.Fatal(err)
	}
	if err := kinds["sandboxes"](100); err != nil {
		t.Error(err)
	}
	none, usual, huge := int64(0), int64(-5), int64(1)<<40
	q := got(f.SetQuota(ctx, id, control.QuotaChange{Agents: &none, Tokens: &usual, Sandboxes: &huge}, nil, testAct()))(t)
	if q.Limits.Agents != 0 || q.Used.Agents != most || q.Limits.Tokens != control.UsualQuota.Tokens || q.Limits.Sandboxes != huge || q.Limits.Vaults != most {
		t.Errorf("the quota is %+v", q)
	}
	if err := kinds["tokens"](100); err != nil {
		t.Error(err)
	}
	other := f.another("other")
	if q := got(other.Quota(ctx, other.Team.ID))(t); q.Limits != control.UsualQuota {
		t.Errorf("another team may have %+v", q)
	}
}
