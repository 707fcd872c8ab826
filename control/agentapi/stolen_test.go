package agentapi_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"sallyport/control"
	"sallyport/control/api"
	"sallyport/control/controltest"
)

// events counts the team's events of a kind about a sandbox.
func events(t *testing.T, team *controltest.Team, kind, sandbox string) int {
	t.Helper()
	return len(slices.DeleteFunc(team.Events(t), func(e control.Event) bool { return e.Kind != kind || e.Sandbox != sandbox }))
}

// A thief who copied the identity while its sidecar was at work, memory and all.
func TestStolenIdentity(t *testing.T) {
	other, _ := replica(t)
	for name, url := range map[string]string{"at the same replica": plane.SidecarURL, "at another replica": other} {
		t.Run("that opens a stream "+name, func(t *testing.T) {
			team := plane.NewTeam(t)
			c := team.Setup(t, "sk_live_1")
			s := team.Join(t)
			w, _ := watch(t, s)
			thief := s.Copy(t)
			thief.Move(t, url)
			watch(t, thief)
			code(t, w.ends(), connect.CodeUnavailable) // so it opens another
			again := s.Client.Watch(t.Context())
			_ = again.Send(&api.WatchRequest{})
			_, err := again.Receive()
			code(t, err, connect.CodePermissionDenied)
			state(t, team, s, control.SandboxLocked)
			for _, who := range []*controltest.Sidecar{s, thief} {
				_, err := who.Fetch(t.Context(), c.ID, 1, "api.stripe.com")
				code(t, err, connect.CodePermissionDenied)
			}
			if n := events(t, team, "sandbox.lock", s.ID); n != 1 {
				t.Errorf("%d events of the lock", n)
			}
		})
	}
	t.Run("that leaps ahead", func(t *testing.T) {
		team := plane.NewTeam(t)
		team.Setup(t, "sk_live_1")
		s := team.Join(t)
		w, _ := watch(t, s)
		thief := s.Copy(t)
		thief.Restart(t) // as if it were the next worker
		watch(t, thief)
		code(t, w.ends(), connect.CodeUnavailable)
		again := s.Client.Watch(t.Context())
		_ = again.Send(&api.WatchRequest{})
		_, err := again.Receive()
		code(t, err, connect.CodePermissionDenied)
		state(t, team, s, control.SandboxLocked)
	})
	t.Run("that only fetches", func(t *testing.T) {
		team := plane.NewTeam(t)
		c := team.Setup(t, "sk_live_1")
		s := team.Join(t)
		thief := s.Copy(t) // before the stream was opened, as the state is that init keeps
		watch(t, s)
		before := plane.Metric(t, "sallyport_control_stranger_fetches_total")
		for _, session := range []string{"", "AAAA", strings.Repeat("A", 43)} {
			_, err := plane.WithSession(t, thief, session).Fetch(t.Context(), connect.NewRequest(&api.FetchRequest{CredentialId: c.ID, Version: 1, Host: "api.stripe.com"}))
			code(t, err, connect.CodeUnavailable)
			_, err = plane.WithSession(t, thief, session).Report(t.Context(), connect.NewRequest(&api.ReportRequest{Events: []*api.Event{{Sequence: 1}}}))
			code(t, err, connect.CodeUnavailable)
		}
		if n := plane.Metric(t, "sallyport_control_stranger_fetches_total") - before; n != 3 {
			t.Errorf("%v attempts were counted", n)
		}
		if n := events(t, team, "sandbox.alert", s.ID); n != 1 {
			t.Errorf("%d alerts of three attempts in a minute", n)
		}
		if n := events(t, team, "grant", s.ID) + events(t, team, "request", s.ID); n != 0 {
			t.Errorf("%d grants and reports of a thief", n)
		}
		state(t, team, s, control.SandboxEnrolled) // nobody can cut a sandbox off by asking
		if _, err := s.Fetch(t.Context(), c.ID, 1, "api.stripe.com"); err != nil {
			t.Errorf("the holder of the stream: %v", err)
		}
	})
	t.Run("that has the sandbox locked, and reports in its place", func(t *testing.T) {
		team := plane.NewTeam(t)
		team.Setup(t, "sk_live_1")
		s := team.Join(t)
		thief := s.Copy(t)
		watch(t, s)
		opened := thief.Client.Watch(t.Context())
		_ = opened.Send(&api.WatchRequest{})
		_, err := opened.Receive()
		code(t, err, connect.CodePermissionDenied)
		state(t, team, s, control.SandboxLocked)
		report := func(by *controltest.Sidecar, request string) error {
			_, err := by.Client.Report(t.Context(), connect.NewRequest(&api.ReportRequest{Events: []*api.Event{{Sequence: 1, RequestId: request}}}))
			return err
		}
		if err := report(thief, "false"); err == nil {
			t.Error("an event of the thief's is stored")
		}
		if err := report(s, "true"); err != nil {
			t.Errorf("what the sandbox had done before: %v", err)
		}
	})
	t.Run("whose session is stale", func(t *testing.T) {
		team := plane.NewTeam(t)
		c := team.Setup(t, "sk_live_1")
		s := team.Join(t)
		watch(t, s)
		thief := s.Copy(t)
		watch(t, s)
		_, err := thief.Fetch(t.Context(), c.ID, 1, "api.stripe.com")
		code(t, err, connect.CodeUnavailable)
	})
}

// What a worker may do that looks like it, and is none.
func TestRestartsAndMovesAreNoTheft(t *testing.T) {
	team := plane.NewTeam(t)
	c := team.Setup(t, "sk_live_1")
	other, _ := replica(t)
	s := team.Join(t)
	for i := range 3 {
		watch(t, s) // beside the one before, whose connection died unseen
		s.Move(t, []string{other, plane.SidecarURL}[i%2])
		if _, err := s.Fetch(t.Context(), c.ID, 1, "api.stripe.com"); err != nil {
			t.Errorf("at another replica, with no stream there: %v", err)
		}
		watch(t, s)
		s.Restart(t)
		watch(t, s)
		if _, err := s.Fetch(t.Context(), c.ID, 1, "api.stripe.com"); err != nil {
			t.Errorf("the next worker: %v", err)
		}
	}
	state(t, team, s, control.SandboxEnrolled)
	if n := events(t, team, "sandbox.alert", s.ID); n != 0 {
		t.Errorf("%d alerts", n)
	}
}

// TestRevokedEverywhere revokes at one replica and calls everything at another, at once.
func TestRevokedEverywhere(t *testing.T) {
	team := plane.NewTeam(t)
	c := team.Setup(t, "sk_live_1")
	url, _ := replica(t)
	s := team.Join(t)
	s.Move(t, url)
	w, _ := watch(t, s)
	if _, err := s.Fetch(t.Context(), c.ID, 1, "api.stripe.com"); err != nil {
		t.Fatal(err)
	}
	team.Must(t, "DELETE", "sandboxes/"+s.ID, nil, nil)
	revoked := time.Now()
	_, err := s.Fetch(t.Context(), c.ID, 1, "api.stripe.com")
	code(t, err, connect.CodePermissionDenied)
	_, err = s.Renew(t.Context(), controltest.CSR(t, s.Key), s.Generation)
	code(t, err, connect.CodePermissionDenied)
	code(t, w.ends(), connect.CodePermissionDenied)
	t.Logf("the stream at the other replica ended %v after the answer", time.Since(revoked))
	again := s.Client.Watch(t.Context())
	_ = again.Send(&api.WatchRequest{})
	_, err = again.Receive()
	code(t, err, connect.CodePermissionDenied)
	if n := events(t, team, "grant", s.ID); n != 1 {
		t.Errorf("%d grants", n)
	}
}
