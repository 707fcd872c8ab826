package store

import (
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

// TestOnce: of many that do the same with one key, one does it, whatever it is that is
// done; and no other token finds out.
func TestOnce(t *testing.T) {
	f := newFixture(t)
	f.agent("billing")
	o := Once{Token: hash("token"), Key: hash("key"), Request: hash("request")}
	ctx := WithOnce(t.Context(), o)
	var wg sync.WaitGroup
	errs := make([]error, 20)
	for i := range errs {
		wg.Go(func() {
			_, errs[i] = f.CreateSandbox(ctx, f.Team.ID, "billing", hash(NewID()), inAnHour(), testAct())
		})
	}
	wg.Wait()
	done := 0
	for _, err := range errs {
		if err == nil {
			done++
		} else {
			wantCode(t, err, control.CodeConflict, "idempotency key")
		}
	}
	sandboxes, _, err := f.Sandboxes(t.Context(), f.Team.ID, Page{})
	if done != 1 || err != nil || len(sandboxes) != 1 {
		t.Errorf("%d of them were done, and there are %d sandboxes, %v", done, len(sandboxes), err)
	}
	if d := got(f.Done(t.Context(), o))(t); string(d.Request) != string(o.Request) || d.Answer != nil {
		t.Errorf("what was done is %+v", d)
	}
	if err := f.KeepAnswer(t.Context(), o, []byte("sealed")); err != nil {
		t.Fatal(err)
	}
	if d := got(f.Done(t.Context(), o))(t); string(d.Answer) != "sealed" {
		t.Errorf("what was done is %+v", d)
	}
	other := o
	other.Token = hash("another token")
	_, err = f.Done(t.Context(), other)
	wantCode(t, err, control.CodeNotFound)
	if _, err := f.CreateVault(WithOnce(t.Context(), other), f.Team.ID, control.Vault{ID: NewID(), Name: "x"}, control.WrappedKey{KEK: "k", Version: 1, Blob: []byte("x")}, testAct()); err != nil {
		t.Errorf("the same key of another: %v", err)
	}
}

// TestOnceIsForgotten: after a day a key is as new, and what was kept of it goes.
func TestOnceIsForgotten(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	for i := range 3 {
		o := Once{Token: hash("token"), Key: hash("key"), Request: hash("request")}
		got(f.CreateAgent(WithOnce(ctx, o), f.Team.ID, "a"+string(rune('0'+i)), testAct()))(t)
		got(f.pool.Exec(ctx, `update idempotency_keys set created_at = created_at - interval '25 hours'`))(t)
		_, err := f.Done(ctx, o)
		wantCode(t, err, control.CodeNotFound)
	}
	if n := got(one(ctx, f.pool, "rows", pgx.RowTo[int], `select count(*) from idempotency_keys`))(t); n != 1 {
		t.Errorf("%d are kept", n)
	}
	// What failed was not done.
	o := Once{Token: hash("token"), Key: hash("another"), Request: hash("request")}
	_, err := f.CreateAgent(WithOnce(ctx, o), f.Team.ID, "a0", testAct())
	wantCode(t, err, control.CodeConflict)
	_, err = f.Done(ctx, o)
	wantCode(t, err, control.CodeNotFound)
}

func inAnHour() time.Time { return time.Now().Add(time.Hour) }
