package admin

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts what the admin API does.
type Metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

// NewMetrics makes the metrics and registers them.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_control_admin_requests_total",
			Help: "Requests of the admin API, by route and status code.",
		}, []string{"route", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "sallyport_control_admin_request_duration_seconds",
			Help:    "Time to answer a request of the admin API, waiting for a rotation included, by route.",
			Buckets: prometheus.DefBuckets,
		}, []string{"route"}),
	}
	r.MustRegister(m.requests, m.duration)
	return m
}

// requested counts a request by its route's pattern, which the caller can't choose.
func (m *Metrics) requested(route string, status int, d time.Duration) {
	if route == "" {
		route = "none"
	}
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	m.duration.WithLabelValues(route).Observe(d.Seconds())
}
