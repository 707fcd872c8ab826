package store

import (
	"sync"
	"testing"

	"sallyport/control"
)

// A credential that is due leaves one event for each version, however many replicas
// look, and is counted until it is rotated.
func TestRemindDue(t *testing.T) {
	f := newFixture(t)
	v := f.vault("prod")
	c := f.credential(v, "stripe", "api.stripe.com")
	f.credential(v, "never", "never.example.com")
	count := func() int {
		t.Helper()
		for _, o := range got(f.RemindDue(t.Context()))(t) {
			if o.Team == f.Team.Name {
				return o.Count
			}
		}
		return 0
	}
	told := func() (n int) {
		t.Helper()
		events, _, err := f.Events(t.Context(), f.Team.ID, Page{Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if e.Kind == "credential.due" {
				n++
				if e.Credential != "prod/stripe" || e.Actor != "system" || e.Detail != "to be rotated every 90d" {
					t.Errorf("the event is %+v", e)
				}
			}
		}
		return n
	}
	every := func(days control.Days) control.Credential {
		t.Helper()
		return got(f.SetRotateEvery(t.Context(), f.Team.ID, "prod", "stripe", days, nil, testAct()))(t)
	}
	age := func() {
		t.Helper()
		if _, err := f.pool.Exec(t.Context(), `update credentials set rotated_at = now() - interval '90 days' where id = $1`, c.ID); err != nil {
			t.Fatal(err)
		}
	}
	if set := every(90); set.RotateEvery != 90 || !set.RotateDue.Equal(set.RotatedAt.AddDate(0, 0, 90)) || count() != 0 {
		t.Errorf("a new one is %+v", set)
	}
	toRotate := func() []control.Credential {
		t.Helper()
		credentials, _, err := f.TeamCredentials(t.Context(), f.Team.ID, true, Page{})
		if err != nil {
			t.Fatal(err)
		}
		return credentials
	}
	if due := toRotate(); len(due) != 0 {
		t.Errorf("a new one is due: %v", due)
	}
	age()
	if due := toRotate(); len(due) != 1 || due[0].ID != c.ID {
		t.Errorf("due are %v, not %s", due, c.ID)
	}
	var looking sync.WaitGroup
	for range 8 {
		looking.Go(func() {
			if _, err := f.RemindDue(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	looking.Wait()
	if count() != 1 || told() != 1 {
		t.Errorf("%d are due, of which %d events tell", count(), told())
	}
	if _, _, err := f.RotateCredential(t.Context(), f.Team.ID, c.ID, 1, secret(), testAct()); err != nil {
		t.Fatal(err)
	}
	if count() != 0 || told() != 1 {
		t.Errorf("after the rotation %d are due, of which %d events tell", count(), told())
	}
	age()
	if count() != 1 || told() != 2 {
		t.Errorf("90 days later %d are due, of which %d events tell", count(), told())
	}
	if set := every(0); set.RotateDue != nil || count() != 0 {
		t.Errorf("nobody is to be reminded of %+v", set)
	}
}
