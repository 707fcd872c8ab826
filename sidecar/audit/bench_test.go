package audit

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"sallyport/control/api"
)

// BenchmarkQueue is what a request pays for its event.
func BenchmarkQueue(b *testing.B) {
	b.Run("reserve", func(b *testing.B) {
		q := newQueue(nil, 1, quiet)
		for b.Loop() {
			q.Reserve(b.Context())
			q.Cancel()
		}
	})
	b.Run("record", func(b *testing.B) {
		q := newQueue(nil, mostEvents, quiet)
		for b.Loop() {
			q.Record(busy())
			emptied(q)
		}
	})
	b.Run("intend and complete", func(b *testing.B) {
		q := newQueue(nil, mostEvents, quiet)
		for b.Loop() {
			i, _ := q.Intend(b.Context(), api.AuditMode_AUDIT_MODE_BEST_EFFORT, busy())
			q.Complete(i)
			emptied(q)
		}
	})
}

// emptied has a full queue reported.
func emptied(q *Queue) {
	if len(q.events) == mostEvents {
		for _, e := range q.events {
			q.journal.give(e.slot)
		}
		q.events = q.events[:0]
	}
}

// BenchmarkMarshal is the encoding of a batch, for each event.
func BenchmarkMarshal(b *testing.B) {
	events := make([]*api.Event, batchSize)
	for i := range events {
		events[i] = busy()
	}
	for b.Loop() {
		if _, err := proto.Marshal(&api.ReportRequest{Events: events}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batchSize), "ns/event")
}

func busy() *api.Event {
	return &api.Event{
		Time: timestamppb.Now(), RequestId: "J7ZK3Q5R2M6VXW4TYPLBNDCFGH", Host: "api.stripe.com", Port: 443, Method: "GET", Path: "/v1/charges",
		Protocol: "HTTP/1.1", Decision: "inject", Status: 200, CredentialId: "0199b3c4-7d5e-7a6b-8c9d-0e1f2a3b4c5d", Version: 1,
		LeaseId: "0199b3c4-7d5e-7a6b-8c9d-0e1f2a3b4c5d", RequestBytes: 120, ResponseBytes: 1024,
		Duration: durationpb.New(180 * time.Microsecond), Upstream: durationpb.New(70 * time.Microsecond),
	}
}
