package main

import (
	"net/http"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"sallyport/control"
	"sallyport/control/admin"
	"sallyport/control/agentapi"
	"sallyport/control/forward"
)

// metrics is everything that this process counts.
type metrics struct {
	registry *prometheus.Registry
	admin    *admin.Metrics
	agentapi *agentapi.Metrics
	forward  *forward.Metrics
	overdue  *prometheus.GaugeVec
}

func newMetrics(version string) *metrics {
	r := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "sallyport_control_build_info",
		Help:        "Always 1; the labels say what is running.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	})
	build.Set(1)
	r.MustRegister(build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	overdue := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "sallyport_control_credentials_overdue",
		Help: "Credentials that are due to be rotated, by team; nothing of a team without one.",
	}, []string{"team"})
	r.MustRegister(overdue)
	return &metrics{registry: r, admin: admin.NewMetrics(r), agentapi: agentapi.NewMetrics(r), forward: forward.NewMetrics(r), overdue: overdue}
}

// due counts anew what is due to be rotated.
func (m *metrics) due(all []control.Overdue) {
	m.overdue.Reset()
	for _, o := range all {
		m.overdue.WithLabelValues(o.Team).Set(float64(o.Count))
	}
}

func (m *metrics) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	return mux
}
