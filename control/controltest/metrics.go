package controltest

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"sallyport/control/admin"
	"sallyport/control/agentapi"
)

// metrics is what a Plane counts.
type metrics struct {
	registry *prometheus.Registry
	admin    *admin.Metrics
	agentapi *agentapi.Metrics
}

func newMetrics() *metrics {
	r := prometheus.NewRegistry()
	return &metrics{registry: r, admin: admin.NewMetrics(r), agentapi: agentapi.NewMetrics(r)}
}

// Metric sums a metric over its labels: the value of a counter or gauge, the
// number of observations of a histogram.
func (p *Plane) Metric(t *testing.T, name string) float64 {
	t.Helper()
	families, err := p.metrics.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return sum(f)
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

func sum(f *dto.MetricFamily) (total float64) {
	for _, m := range f.GetMetric() {
		total += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
	}
	return total
}
