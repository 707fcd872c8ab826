package sidecar

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"sallyport/control/api"
	"sallyport/sidecar/bind"
	"sallyport/sidecar/identity"
	"sallyport/sidecar/material"
	"sallyport/sidecar/proxy"
)

// TestStandsByItsLimits: a request that was decided about before its credential's limits
// want a person or a count of it does not go out without.
func TestStandsByItsLimits(t *testing.T) {
	key, err := api.GenerateSealKey()
	if err != nil {
		t.Fatal(err)
	}
	w := &worker{identity: new(identity.Identity), leases: material.NewCache(leasing{key}, key, slog.New(slog.DiscardHandler))}
	bearer := []*api.Rule{{Place: &api.Rule_Header_{Header: &api.Rule_Header{Name: "Authorization", Template: "Bearer {{token}}"}}}}
	serve := func(l *api.Limits) {
		if l.GetApproval() != api.Approval_APPROVAL_UNSPECIFIED {
			l.ApprovalTimeout = durationpb.New(time.Minute)
		}
		b := &api.Binding{CredentialId: "one", Version: 1, Vault: "v", Name: "one", Hosts: []string{"a.test"}, Inject: bearer, Limits: l}
		table, err := bind.New([]*api.Binding{b}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		w.leases.Replace(map[string]uint64{"one": 1}, func() { w.served.Store(&served{table: table}) })
	}
	serve(nil)
	lease, err := w.leases.Get(t.Context(), "one", 1, "a.test")
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Release()
	asked := bind.Request{Host: "a.test", Port: 443, TLS: true, Method: "POST", Path: "/"}
	first, each := api.Approval_APPROVAL_FIRST, api.Approval_APPROVAL_EACH
	for name, c := range map[string]struct {
		then, now *api.Limits
		refused   bool
	}{
		"none":                   {nil, nil, false},
		"none any more":          {&api.Limits{Approval: each, Budget: true}, nil, false},
		"the same":               {&api.Limits{Approval: each, Rate: true}, &api.Limits{Approval: each, Rate: true}, false},
		"a person has to be":     {nil, &api.Limits{Approval: first}, true},
		"asked each time":        {&api.Limits{Approval: first}, &api.Limits{Approval: each}, true},
		"a budget":               {nil, &api.Limits{Budget: true}, true},
		"a budget beside a rate": {&api.Limits{Rate: true}, &api.Limits{Rate: true, Budget: true}, true},
		"no rate any more":       {&api.Limits{Rate: true, Budget: true}, &api.Limits{Budget: true}, false},
	} {
		serve(proto.CloneOf(c.then))
		stands := w.stands(w.served.Load(), c.then, lease, &proxy.Exchange{}, asked)
		serve(proto.CloneOf(c.now))
		err := stands()
		var refusal *proxy.Error
		if errors.As(err, &refusal) != c.refused || c.refused && refusal.Code != "credential_changing" || !c.refused && err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Nothing is told of a credential that expires.
	limits := &api.Limits{Expires: timestamppb.New(time.Now().Add(50 * time.Millisecond))}
	serve(limits)
	stands := w.stands(w.served.Load(), limits, lease, &proxy.Exchange{}, asked)
	if err := stands(); err != nil {
		t.Errorf("before it expires: %v", err)
	}
	time.Sleep(time.Until(limits.GetExpires().AsTime()))
	var limit *bind.LimitError
	if err := stands(); !errors.As(err, &limit) {
		t.Errorf("when it has expired: %v", err)
	}
}
