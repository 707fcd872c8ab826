package sidecar

import (
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sallyport/control/api"
	"sallyport/sidecar/audit"
	"sallyport/sidecar/bind"
	"sallyport/sidecar/gate"
	"sallyport/sidecar/identity"
	"sallyport/sidecar/proxy"
)

// TestFloodHidesNothing: refusals without end leave room to record what is passed
// through and what changes its protocol.
func TestFloodHidesNothing(t *testing.T) {
	w := &worker{log: slog.New(slog.DiscardHandler)}
	w.served.Store(nothing(nil))
	w.events = audit.New(audit.Config{Capacity: auditCapacity, Journal: make([]byte, audit.JournalSize(auditCapacity)), Log: w.log})
	w.metrics = newMetrics(w)
	flow := &gate.Flow{Name: "pinned.example.com", Accepted: time.Now()}
	for range 2 * auditCapacity {
		w.refused(flow, &gate.Refusal{Code: "not_http"})
	}
	before := w.events.Stats()
	if before.Queued != auditCapacity/2 || before.Dropped != 3*auditCapacity/2 {
		t.Fatalf("the flood left %+v", before)
	}
	for range 20 {
		if refusal := w.passing(t.Context()); refusal != nil {
			t.Fatalf("refused: %+v", refusal)
		}
		w.passed(flow, gate.Passage{Route: gate.Route{Host: flow.Name, Port: 443}})
		if err := w.opened(&proxy.Exchange{Host: flow.Name, Start: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	if after := w.events.Stats(); after.Queued != before.Queued+40 || after.Dropped != before.Dropped {
		t.Errorf("40 events later: %+v", after)
	}
}

// TestHintNamesWhatHelps: a rule that passes a host through is not named where
// none ever applies.
func TestHintNamesWhatHelps(t *testing.T) {
	table, err := bind.New([]*api.Binding{{
		CredentialId: "id", Vault: "main", Name: "key", Version: 1, Hosts: []string{"bound.example.com", "*.bound.example.com:8443"},
		Inject: []*api.Rule{{Place: &api.Rule_Basic_{Basic: &api.Rule_Basic{}}}},
	}}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &worker{identity: new(identity.Identity)}
	w.served.Store(&served{table: table})
	for _, test := range []struct {
		code, host string
		port       uint16
		passes     bool
	}{
		{"untrusted_ca", "bound.example.com", 443, false},
		{"untrusted_ca", "a.bound.example.com", 8443, false},
		{"alpn_refused", "bound.example.com", 443, false},
		{"old_tls", "bound.example.com", 443, false},
		{"untrusted_ca", "other.example.com", 443, true},
		{"untrusted_ca", "bound.example.com", 8443, true},
		{"old_tls", "other.example.com", 443, true},
	} {
		flow := &gate.Flow{Name: test.host, Original: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), test.port)}
		hint := w.hint(flow, &gate.Refusal{Code: test.code, Hint: "why"})
		if strings.Contains(hint, "--rule 'passthrough "+test.host) != test.passes || strings.Contains(hint, "never passed through") == test.passes {
			t.Errorf("%s, %s:%d: %s", test.code, test.host, test.port, hint)
		}
	}
}
