package agentapi_test

import (
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"sallyport/control/api"
)

// A policy reaches the sandboxes of its agent while they run, and only theirs.
func TestWatchFollowsThePolicy(t *testing.T) {
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_1")
	one, first := watch(t, team.Join(t))
	two, _ := watch(t, team.Join(t))
	if p := first.GetPolicy(); p.GetDefault() != api.Action_ACTION_INSPECT || len(p.GetRules()) != 0 {
		t.Errorf("the policy of an agent that was given none: %v", p)
	}
	var set struct{ Revision uint64 }
	team.Must(t, "PUT", "agents/a/policy", map[string]any{"default": "deny", "rules": []any{
		map[string]any{"action": "inspect", "hosts": []string{"PyPI.org"}, "methods": []string{"GET", "HEAD"}, "paths": []string{"/simple"}},
		map[string]any{"action": "passthrough", "hosts": []string{"*.db.example", "10.0.0.0/8"}, "ports": []int{5432}},
	}}, &set)
	want := &api.Policy{Default: api.Action_ACTION_DENY, Rules: []*api.PolicyRule{
		{Action: api.Action_ACTION_INSPECT, Hosts: []string{"pypi.org"}, Methods: []string{"GET", "HEAD"}, Paths: []string{"/simple"}},
		{Action: api.Action_ACTION_PASSTHROUGH, Hosts: []string{"*.db.example", "10.0.0.0/8"}, Ports: []uint32{5432}},
	}}
	for _, w := range []*stream{one, two} {
		m := w.until(func(m *api.WatchResponse) bool { return m.GetRevision() >= set.Revision })
		if !proto.Equal(m.GetPolicy(), want) || len(m.GetBindings()) != 1 {
			t.Errorf("sent %v", m)
		}
	}
	team.Must(t, "POST", "agents", map[string]any{"name": "b"}, nil)
	team.Must(t, "PUT", "agents/b/policy", map[string]any{"default": "passthrough"}, nil)
	team.Must(t, "PUT", "agents/a/policy", map[string]any{}, &set)
	m := one.until(func(m *api.WatchResponse) bool {
		if m.GetPolicy().GetDefault() == api.Action_ACTION_PASSTHROUGH {
			t.Error("the policy of another agent was sent")
		}
		return m.GetRevision() >= set.Revision
	})
	if p := m.GetPolicy(); p.GetDefault() != api.Action_ACTION_INSPECT || len(p.GetRules()) != 0 {
		t.Errorf("after it was taken back: %v", p)
	}
}

func TestBindingSaysWebsocket(t *testing.T) {
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_1")
	team.Must(t, "POST", "vaults/v/credentials", map[string]any{"name": "openai", "service": "openai", "secret": "sk_1"}, nil)
	_, first := watch(t, team.Join(t))
	for _, b := range first.GetBindings() {
		if b.GetAllowWebsocket() != (b.GetName() == "openai") {
			t.Errorf("the binding is %v", b)
		}
	}
}

// What was passed through has an address for a host at times, and no method,
// path or status ever.
func TestPassedThroughIsKept(t *testing.T) {
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_1")
	s := team.Join(t)
	now := timestamppb.New(time.Now())
	_, err := s.Client.Report(t.Context(), connect.NewRequest(&api.ReportRequest{Events: []*api.Event{
		{Sequence: 1, Time: now, RequestId: "1", Host: "pinned.example", Port: 443, Decision: "passthrough", Protocol: "TLS", RequestBytes: 517, ResponseBytes: 4242},
		{Sequence: 2, Time: now, RequestId: "2", Host: "2001:db8::1", Port: 5432, Decision: "passthrough", Protocol: "TCP"},
	}}))
	if err != nil {
		t.Fatal(err)
	}
	events := team.Events(t)
	tcp, tls := events[0], events[1]
	if tls.Decision != "passthrough" || tls.Host != "pinned.example" || tls.Protocol != "TLS" || tls.Method != "" || tls.Path != "" || tls.Status != 0 || tls.BytesOut != 517 || tls.BytesIn != 4242 {
		t.Errorf("kept %+v", tls)
	}
	if tcp.Decision != "passthrough" || tcp.Host != "2001:db8::1" || tcp.Port != 5432 || tcp.Protocol != "TCP" {
		t.Errorf("kept %+v", tcp)
	}
}
