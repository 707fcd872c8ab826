package agentapi_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"connectrpc.com/connect"

	"sallyport/control"
	"sallyport/control/api"
)

func TestWatchSendsBindings(t *testing.T) {
	team := plane.NewTeam(t)
	c := team.Setup(t, "sk_live_1")
	s := team.Join(t)
	_, first := watch(t, s)
	if len(first.GetBindings()) != 1 {
		t.Fatalf("bindings %v", first.GetBindings())
	}
	b := first.GetBindings()[0]
	if b.GetCredentialId() != c.ID || b.GetVault() != "v" || b.GetName() != "stripe" || b.GetVersion() != 1 ||
		!slices.Equal(b.GetHosts(), c.Hosts) || b.GetPlaceholders()[0] != "vault:stripe" || b.GetStray() != api.Stray_STRAY_BLOCK ||
		b.GetInject()[0].GetHeader().GetTemplate() != "Bearer {{token}}" || b.GetAllowHttp() {
		t.Errorf("the binding is %v", b)
	}
	if got := first.GetOutageGrace().AsDuration(); got != time.Hour {
		t.Errorf("outage grace %v", got)
	}
	literal := slices.IndexFunc(first.GetDestinations(), func(d *api.Destination) bool { return d.GetStray() == api.Stray_STRAY_LITERAL })
	if literal < 0 || !slices.Contains(first.GetDestinations()[literal].GetHosts(), "api.openai.com") ||
		slices.Contains(first.GetDestinations()[literal].GetHosts(), "api.stripe.com") {
		t.Errorf("the destinations are %v", first.GetDestinations())
	}
}

func TestWatchFollowsEveryChange(t *testing.T) {
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_1")
	s := team.Join(t)
	w, first := watch(t, s)
	bindings := func(n int) func(*api.WatchResponse) bool {
		return func(m *api.WatchResponse) bool { return len(m.GetBindings()) == n }
	}
	last := first.GetRevision()
	step := func(n int, method, path string, body any) {
		t.Helper()
		team.Must(t, method, path, body, nil)
		m := w.until(bindings(n))
		if m.GetRevision() <= last {
			t.Errorf("%s %s: revision %d after %d", method, path, m.GetRevision(), last)
		}
		last = m.GetRevision()
	}
	step(2, "POST", "vaults/v/credentials", map[string]any{"name": "notion", "service": "notion", "secret": "ntn_1"})
	step(1, "DELETE", "vaults/v/credentials/notion", nil)
	step(0, "DELETE", "agents/a/pins/v", nil)
	step(1, "PUT", "agents/a/pins/v", nil)
	step(0, "DELETE", "vaults/v", nil)
}

func TestRotationIsPushedAndCounted(t *testing.T) {
	team := plane.NewTeam(t)
	c := team.Setup(t, "sk_live_1")
	one, two := team.Join(t), team.Join(t)
	offline := team.Join(t)
	before := plane.Metric(t, "sallyport_control_rotation_propagation_seconds")
	done := make(chan error, 2)
	for _, s := range []*stream{first(watch(t, one)), first(watch(t, two))} {
		go func() {
			for {
				m, err := s.Receive()
				if err != nil {
					done <- err
					return
				}
				if err := s.Send(&api.WatchRequest{AppliedRevision: m.GetRevision()}); err != nil {
					done <- err
					return
				}
				if m.GetBindings()[0].GetVersion() == 2 {
					done <- nil
					return
				}
			}
		}()
	}
	var r control.Rotation
	team.Must(t, "POST", "vaults/v/credentials/stripe/rotate?wait=10s", map[string]any{"secret": "sk_live_2"}, &r)
	if r.Version != 2 || r.Connected != 2 || r.Acknowledged != 2 {
		t.Errorf("the rotation says %+v", r)
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	m, err := one.Fetch(t.Context(), c.ID, 2, "api.stripe.com")
	if err != nil || string(m.Token) != "sk_live_2" {
		t.Errorf("the new version: %v", err)
	}
	_, err = one.Fetch(t.Context(), c.ID, 1, "api.stripe.com")
	code(t, err, connect.CodeNotFound)
	if _, err := offline.Fetch(t.Context(), c.ID, 2, "api.stripe.com"); err != nil {
		t.Errorf("a sidecar without a stream: %v", err)
	}
	if got := plane.Metric(t, "sallyport_control_rotation_propagation_seconds") - before; got != 2 {
		t.Errorf("%v propagations were timed, want 2", got)
	}
}

func first(w *stream, _ *api.WatchResponse) *stream { return w }

// A sidecar that is connected and does not acknowledge is counted as such, and
// the call still answers.
func TestRotationSaysWhoIsMissing(t *testing.T) {
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_1")
	w, snapshot := watch(t, team.Join(t))
	w.acknowledge(snapshot.GetRevision())
	var r control.Rotation
	team.Must(t, "POST", "vaults/v/credentials/stripe/rotate?wait=50ms", map[string]any{"secret": "sk_live_2"}, &r)
	if r.Version != 2 || r.Connected != 1 || r.Acknowledged != 0 {
		t.Errorf("the rotation says %+v", r)
	}
	w.acknowledge(w.until(func(m *api.WatchResponse) bool { return m.GetBindings()[0].GetVersion() == 2 }).GetRevision())
	team.Must(t, "POST", "vaults/v/credentials/stripe/rotate", map[string]any{"secret": "sk_live_3"}, &r)
	if r.Version != 3 || r.Connected != 1 {
		t.Errorf("the second rotation says %+v", r)
	}
}

func TestAcknowledgingTheFutureIsRefused(t *testing.T) {
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_1")
	w, snapshot := watch(t, team.Join(t))
	w.acknowledge(snapshot.GetRevision() + 1000)
	code(t, w.ends(), connect.CodeInvalidArgument)
}

// A sidecar that does not read gets the newest snapshot when it does, not all
// of them.
func TestSlowSidecarGetsTheNewest(t *testing.T) {
	team := plane.NewTeam(t)
	c := team.Setup(t, "sk_live_1")
	w, _ := watch(t, team.Join(t))
	const rotations = 30
	for i := range rotations {
		team.Must(t, "POST", "vaults/v/credentials/stripe/rotate", map[string]any{"secret": fmt.Sprint("sk_live_", i)}, nil)
	}
	messages, last := 0, uint64(0)
	w.until(func(m *api.WatchResponse) bool {
		messages++
		if v := m.GetBindings()[0].GetVersion(); v <= last {
			t.Errorf("version %d after %d", v, last)
		} else {
			last = v
		}
		return last == uint64(c.Version)+rotations
	})
	if messages > rotations {
		t.Errorf("%d snapshots for %d rotations", messages, rotations)
	}
}

func TestRevokeEndsEverythingAtOnce(t *testing.T) {
	for name, revoke := range map[string]string{"its sandbox": "sandboxes/%s", "its agent": "agents/a"} {
		t.Run(name, func(t *testing.T) {
			team := plane.NewTeam(t)
			c := team.Setup(t, "sk_live_1")
			s := team.Join(t)
			w, _ := watch(t, s)
			path := revoke
			if path != "agents/a" {
				path = fmt.Sprintf(revoke, s.ID)
			}
			team.Must(t, "DELETE", path, nil, nil)
			_, err := s.Fetch(t.Context(), c.ID, 1, "api.stripe.com")
			code(t, err, connect.CodePermissionDenied)
			code(t, w.ends(), connect.CodePermissionDenied)
			_, err = s.Renew(t.Context(), s.CSR, s.Generation)
			code(t, err, connect.CodePermissionDenied)
			again := s.Client.Watch(t.Context())
			_ = again.Send(&api.WatchRequest{})
			_, err = again.Receive()
			code(t, err, connect.CodePermissionDenied)
		})
	}
}

func TestConnectedIsHonest(t *testing.T) {
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_1")
	s := team.Join(t)
	connected := func() bool {
		var sandbox control.Sandbox
		team.Must(t, "GET", "sandboxes/"+s.ID, nil, &sandbox)
		return sandbox.Connected
	}
	eventually := func(want bool) {
		t.Helper()
		for deadline := time.Now().Add(patience); connected() != want; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("connected is %v", !want)
			}
		}
	}
	if connected() {
		t.Error("connected before its stream")
	}
	old, _ := watch(t, s)
	eventually(true)
	// A second stream takes the place of the first.
	s.Use(t, s.Certificate)
	w, _ := watch(t, s)
	code(t, old.ends(), connect.CodeUnavailable)
	eventually(true)
	if err := w.CloseRequest(); err != nil {
		t.Fatal(err)
	}
	eventually(false)
}

func TestTeamsDoNotMeet(t *testing.T) {
	one, two := plane.NewTeam(t), plane.NewTeam(t)
	c1, c2 := one.Setup(t, "sk_of_one"), two.Setup(t, "sk_of_two")
	s1, s2 := one.Join(t), two.Join(t)
	_, b1 := watch(t, s1)
	_, b2 := watch(t, s2)
	if b1.GetBindings()[0].GetCredentialId() != c1.ID || b2.GetBindings()[0].GetCredentialId() != c2.ID || len(b1.GetBindings()) != 1 || len(b2.GetBindings()) != 1 {
		t.Error("a sandbox sees the bindings of another team")
	}
	_, err := s1.Fetch(t.Context(), c2.ID, 1, "api.stripe.com")
	code(t, err, connect.CodeNotFound)
	m, err := s1.Fetch(t.Context(), c1.ID, 1, "api.stripe.com")
	if err != nil || string(m.Token) != "sk_of_one" {
		t.Errorf("its own: %v", err)
	}
}

// A sidecar learns which headers it only fills in.
func TestWatchSendsDefaults(t *testing.T) {
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_1")
	team.Must(t, "POST", "vaults/v/credentials", map[string]any{"name": "notion", "service": "notion", "secret": "ntn_1"}, nil)
	_, first := watch(t, team.Join(t))
	i := slices.IndexFunc(first.GetBindings(), func(b *api.Binding) bool { return b.GetName() == "notion" })
	if i < 0 {
		t.Fatalf("bindings %v", first.GetBindings())
	}
	var got []string
	for _, r := range first.GetBindings()[i].GetInject() {
		h := r.GetHeader()
		got = append(got, fmt.Sprintf("%s: %s %t", h.GetName(), h.GetTemplate(), h.GetOnlyIfAbsent()))
	}
	if want := []string{"Authorization: Bearer {{token}} false", "Notion-Version: 2022-06-28 true"}; !slices.Equal(got, want) {
		t.Errorf("the rules are %q, want %q", got, want)
	}
}
