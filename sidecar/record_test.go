package sidecar

import (
	"log/slog"
	"testing"
	"time"

	"sallyport/sidecar/audit"
	"sallyport/sidecar/gate"
	"sallyport/sidecar/proxy"
)

// TestFloodHidesNothing: refusals without end leave room to record what is passed
// through and what changes its protocol.
func TestFloodHidesNothing(t *testing.T) {
	w := &worker{log: slog.New(slog.DiscardHandler)}
	w.events = audit.New(nil, auditCapacity, w.log)
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
