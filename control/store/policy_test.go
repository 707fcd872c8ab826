package store

import (
	"context"
	"reflect"
	"testing"
	"time"

	"sallyport/control"
)

func TestPolicy(t *testing.T) {
	f := newFixture(t)
	v := f.vault("prod")
	c := f.credential(v, "stripe", "api.stripe.com")
	f.credential(f.vault("spare"), "other", "other.test")
	f.agent("billing", "prod")
	f.agent("neighbour")
	b := f.sandbox("billing")
	first := got(f.Policy(t.Context(), f.Team.ID, "billing"))(t)
	if !reflect.DeepEqual(first.Policy, control.DefaultPolicy()) || first.Revision != f.revision() || len(first.Credentials) != 1 || first.Credentials[0].ID != c.ID {
		t.Errorf("a new agent has %+v", first)
	}
	policy := control.Policy{Default: control.ActionDeny, Rules: []control.PolicyRule{
		{Action: control.ActionInspect, Hosts: []string{"pypi.org", "**.example.com"}, Methods: []string{"GET"}, Paths: []string{"/simple/", "/a%20b"}},
		{Action: control.ActionPassthrough, Hosts: []string{"10.0.0.0/8"}, Ports: []uint32{5432}},
		{Action: control.ActionDeny},
	}}
	set := got(f.SetPolicy(t.Context(), f.Team.ID, "billing", policy, nil, testAct()))(t)
	if set.Revision != first.Revision+1 || set.Revision != f.revision() {
		t.Errorf("revision %d after %d; the team's is %d", set.Revision, first.Revision, f.revision())
	}
	if read := got(f.Policy(t.Context(), f.Team.ID, "billing"))(t); !reflect.DeepEqual(read, set) || !reflect.DeepEqual(read.Policy, policy) {
		t.Errorf("stored %+v\nanswered %+v\nread %+v", policy, set, read)
	}
	if snap := got(f.Snapshot(t.Context(), f.Team.ID, b.ID))(t); !reflect.DeepEqual(snap.Policy, policy) || snap.Revision != set.Revision {
		t.Errorf("the sandbox's snapshot is %+v", snap)
	}
	if other := got(f.Policy(t.Context(), f.Team.ID, "neighbour"))(t); !reflect.DeepEqual(other.Policy, control.DefaultPolicy()) {
		t.Errorf("another agent has %+v", other)
	}
}

func TestPolicyIsOfOneTeam(t *testing.T) {
	f := newFixture(t)
	f.agent("billing")
	other := f.another("other")
	_, err := other.Policy(t.Context(), other.Team.ID, "billing")
	wantCode(t, err, control.CodeNotFound, `agent "billing"`)
	_, err = other.SetPolicy(t.Context(), other.Team.ID, "billing", control.DefaultPolicy(), nil, testAct())
	wantCode(t, err, control.CodeNotFound, `agent "billing"`)
}

// Every replica hears of it, as of a pin.
func TestPolicyIsAnnounced(t *testing.T) {
	f := newFixture(t)
	f.agent("billing")
	ctx, cancel := context.WithCancel(t.Context())
	heard := make(chan string, 16)
	listening := make(chan error, 1)
	go func() { listening <- f.Listen(ctx, func(team, _ string) { heard <- team }, func(string) {}) }()
	defer func() {
		cancel()
		if err := <-listening; err != nil {
			t.Error(err)
		}
	}()
	next := func() string {
		select {
		case team := <-heard:
			return team
		case <-time.After(10 * time.Second):
			t.Fatal("nothing was heard")
			return ""
		}
	}
	next() // it listens
	got(f.SetPolicy(t.Context(), f.Team.ID, "billing", control.DefaultPolicy(), nil, testAct()))(t)
	if team := next(); team != f.Team.ID {
		t.Errorf("heard of %q", team)
	}
}
