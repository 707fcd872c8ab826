package store

import (
	"fmt"
	"testing"
	"time"
)

// TestManyAreDueAtOnce: what is due is recorded in one piece. One after another ten thousand
// took a minute, in which the team had no lease, no report and no revocation.
func TestManyAreDueAtOnce(t *testing.T) {
	f := newFixture(t)
	v := f.vault("prod")
	for i := range 3 {
		name := fmt.Sprint("c", i)
		f.credential(v, name, name+".example.com")
		got(f.SetRotateEvery(t.Context(), f.Team.ID, "prod", name, 90, nil, testAct()))(t)
	}
	if _, err := f.pool.Exec(t.Context(), `update credentials set rotated_at = now() - interval '90 days' where vault_id = $1`, v.ID); err != nil {
		t.Fatal(err)
	}
	got(f.RemindDue(t.Context()))(t)
	events, _, err := f.Events(t.Context(), f.Team.ID, Page{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	told, at := 0, map[time.Time]bool{}
	for _, e := range events {
		if e.Kind == "credential.due" {
			told++
			at[e.Time] = true
		}
	}
	if told != 3 || len(at) != 1 {
		t.Errorf("%d events tell of three, in %d pieces", told, len(at))
	}
	if err := f.VerifyChain(t.Context(), f.Team.ID); err != nil {
		t.Error(err)
	}
}
