package store

import "testing"

// BenchmarkFetch is what the store does for one request for material.
func BenchmarkFetch(b *testing.B) {
	f := newFixture(b)
	c := f.credential(f.vault("prod"), "stripe", "api.stripe.com")
	f.agent("billing", "prod")
	id := f.sandbox("billing").ID
	fetch := func() {
		got(f.Identity(b.Context(), f.Team.ID, id))(b)
		got(f.Bound(b.Context(), f.Team.ID, id, c.ID, 1))(b)
		got(f.grant(id, c.ID, 1))(b)
	}
	fetch()
	own, postgres := cpu(), cpuOfChildren(b)
	for b.Loop() {
		fetch()
	}
	b.ReportMetric(float64((cpu()-own).Nanoseconds())/float64(b.N), "own-ns/op")
	b.ReportMetric(float64((cpuOfChildren(b)-postgres).Nanoseconds())/float64(b.N), "postgres-ns/op")
}
