package main

import (
	"testing"

	"sallyport/control"
)

func TestEventWhat(t *testing.T) {
	for _, tc := range []struct {
		event control.Event
		want  string
	}{
		{control.Event{Host: "api.example.com", Port: 443, Method: "GET", Path: "/v1", Protocol: "HTTP/2.0"}, "GET api.example.com/v1"},
		{control.Event{Host: "api.example.com", Port: 8443, Method: "GET", Path: "/v1", Protocol: "HTTP/2.0"}, "GET api.example.com:8443/v1"},
		{control.Event{Host: "pinned.example", Port: 443, Protocol: "TLS", Decision: "passthrough"}, "TLS pinned.example"},
		{control.Event{Host: "192.0.2.1", Port: 5432, Protocol: "TCP", Decision: "passthrough"}, "TCP 192.0.2.1:5432"},
		{control.Event{Host: "2001:db8::1", Port: 5432, Protocol: "TCP", Decision: "passthrough"}, "TCP [2001:db8::1]:5432"},
		{control.Event{Host: "2001:db8::1", Port: 443, Protocol: "TLS", Decision: "passthrough"}, "TLS 2001:db8::1"},
		{control.Event{Kind: "vault.create", Detail: "payments"}, "payments"},
	} {
		if got := eventWhat(tc.event); got != tc.want {
			t.Errorf("%+v: %q, want %q", tc.event, got, tc.want)
		}
	}
}

// Of what an admin did about an agent, the admin is who did it.
func TestEventWho(t *testing.T) {
	for actor, want := range map[string]string{"sandbox:01a2": "billing", "token:admin": "token:admin", "person:a@example.com/1": "person:a@example.com/1", "": "billing"} {
		if got := eventWho(control.Event{Kind: "approval.approve", Actor: actor, Agent: "billing"}); got != want {
			t.Errorf("%s: %q, want %q", actor, got, want)
		}
	}
	if got := eventWho(control.Event{Actor: "sandbox:01a2"}); got != "sandbox:01a2" {
		t.Errorf("without an agent: %q", got)
	}
}
