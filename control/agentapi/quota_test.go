package agentapi_test

import (
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"sallyport/control"
	"sallyport/control/api"
)

// TestQuotaOfTeam: past a quota by time a sidecar is told to come again, which it does
// with leases and events that it has yet; nothing is taken of a batch that has no room.
func TestQuotaOfTeam(t *testing.T) {
	team := plane.NewTeam(t)
	c := team.Setup(t, "sk_live_1")
	s := team.Join(t)
	set := func(kind string, n int64) (q control.Quota) {
		t.Helper()
		r := plane.DoWith(t, plane.Owner, "PATCH", team.Path("quota"), map[string]any{kind: n}, http.Header{"If-Match": {"*"}})
		r.Into(t, 200, &q)
		return q
	}
	set("fetches", 2)
	var err error
	for range 5 { // a minute may end meanwhile
		if _, err = s.Fetch(t.Context(), c.ID, 1, "api.stripe.com"); err != nil {
			break
		}
	}
	if connect.CodeOf(err) != connect.CodeResourceExhausted || !strings.Contains(err.Error(), "sallyport quota set --fetches") {
		t.Errorf("too many fetches: %v", err)
	}
	set("fetches", -1)
	if _, err := s.Fetch(t.Context(), c.ID, 1, "api.stripe.com"); err != nil {
		t.Errorf("with the usual quota: %v", err)
	}

	report := func(from, n uint64) error {
		events := make([]*api.Event, n)
		for i := range events {
			events[i] = &api.Event{Sequence: from + uint64(i), RequestId: "r"}
		}
		_, err := s.Client.Report(t.Context(), connect.NewRequest(&api.ReportRequest{Events: events}))
		return err
	}
	q := set("events", 1<<40)
	set("events", q.Used.Events+2+3) // and the events of both changes
	if err := report(1, 3); err != nil {
		t.Fatal(err)
	}
	before := len(team.Events(t))
	for _, err := range []error{report(4, 2), report(4, 1)} {
		if connect.CodeOf(err) != connect.CodeResourceExhausted || !strings.Contains(err.Error(), "sallyport quota set --events") {
			t.Errorf("too many events: %v", err)
		}
	}
	if _, err := s.Fetch(t.Context(), c.ID, 1, "api.stripe.com"); connect.CodeOf(err) != connect.CodeResourceExhausted {
		t.Errorf("a fetch without room for its event: %v", err)
	}
	if n := len(team.Events(t)); n != before {
		t.Errorf("%d events were taken", n-before)
	}
	set("events", -1)
	if err := report(4, 2); err != nil {
		t.Errorf("what was kept: %v", err)
	}
}
