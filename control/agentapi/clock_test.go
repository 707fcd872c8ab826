package agentapi_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"sallyport/control/api"
	"sallyport/control/controltest"
)

// lasts asks for a lease, and gives for how long it may be used by the clock that the
// answer's Date is of, as a sidecar counts.
func lasts(t *testing.T, s *controltest.Sidecar, credential string) (fresh, hard time.Duration) {
	t.Helper()
	response, err := s.Client.Fetch(t.Context(), connect.NewRequest(&api.FetchRequest{CredentialId: credential, Version: 1, Host: "api.stripe.com", Limits: true}))
	if err != nil {
		t.Fatal(err)
	}
	date, err := http.ParseTime(response.Header().Get("Date"))
	if err != nil {
		t.Fatal(err)
	}
	return response.Msg.GetFreshUntil().AsTime().Sub(date), response.Msg.GetHardExpiry().AsTime().Sub(date)
}

// A database whose clock is wrong, or leaps, makes nothing last longer or shorter.
func TestDatabaseClock(t *testing.T) {
	plane, clock := controltest.StartApart(t)
	team := plane.NewTeam(t)
	c := team.Setup(t, "sk_live_canary_1")
	s := team.Join(t)
	around := func(what string, got, want time.Duration) {
		t.Helper()
		if (got - want).Abs() > 30*time.Second {
			t.Errorf("%s lasts %v, want %v", what, got, want)
		}
	}
	for _, ahead := range []time.Duration{0, time.Hour, 30 * 24 * time.Hour, -90 * time.Minute, -30 * 24 * time.Hour} {
		t.Run(ahead.String(), func(t *testing.T) {
			clock.Set(t, ahead)
			fresh, hard := lasts(t, s, c.ID)
			around("material", fresh, 5*time.Minute)
			around("material that nobody can be asked for", hard, time.Hour)

			// A join token is good for the moment that it is meant for.
			_, token := team.NewSandbox(t)
			if err := plane.NewSidecar(t).Enroll(t, token); err != nil {
				t.Errorf("a join token that was just made: %v", err)
			}
			_, token = team.NewSandbox(t)
			clock.Set(t, ahead+6*time.Minute)
			if err := plane.NewSidecar(t).Enroll(t, token); connect.CodeOf(err) != connect.CodeUnauthenticated {
				t.Errorf("a join token of six minutes ago: %v", err)
			}
		})
	}

	// Nor are events removed that are young by this machine's clock.
	clock.Set(t, 10*365*24*time.Hour)
	if dropped, err := plane.Store.Retain(t.Context(), 30*24*time.Hour); err != nil || len(dropped) > 0 {
		t.Errorf("removed %v, %v", dropped, err)
	}
	if degraded := plane.Do(t, "", "GET", "/readyz", nil).Body; !strings.Contains(degraded, `"clock"`) {
		t.Errorf("/readyz says %s", degraded)
	}
	// What can't be recorded is refused, until there is a part for the month.
	if _, err := s.Fetch(t.Context(), c.ID, 1, "api.stripe.com"); err == nil {
		t.Error("a lease without its event")
	}
	if err := plane.Store.KeepMonths(t.Context()); err != nil {
		t.Fatal(err)
	}
	lasts(t, s, c.ID)
}
