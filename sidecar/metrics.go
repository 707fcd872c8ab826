package sidecar

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"sallyport/sidecar/gate"
	"sallyport/sidecar/proxy"
)

// metrics are one worker's. No label holds a host, a path or anything else that
// an agent chooses.
type metrics struct {
	registry    *prometheus.Registry
	requests    *prometheus.CounterVec
	refusals    *prometheus.CounterVec
	connections *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	upstream    prometheus.Histogram
	sent        prometheus.Counter
	received    prometheus.Counter
	redactions  prometheus.Counter
	spliced     *prometheus.CounterVec
}

const (
	// mostScrapes bounds the connections that read metrics, so that others of the machine's
	// network can't use up the worker's descriptors and memory.
	mostScrapes = 32
	// scrapeTimeout bounds each part of one.
	scrapeTimeout = 5 * time.Second
)

// latencies span a cached answer on loopback to a model that thinks.
var latencies = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}

func newMetrics(w *worker) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_sidecar_requests_total", Help: "Requests by what was decided and the class of the status the client saw."}, []string{"decision", "status"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_sidecar_refusals_total", Help: "Connections and requests that the sidecar answered itself, by error code."}, []string{"code"}),
		connections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_sidecar_connections_total", Help: "Connections by the protocol agreed on; those passed through are counted when they end."}, []string{"protocol"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sallyport_sidecar_request_duration_seconds", Help: "Time from a request's head to the end of its response.", Buckets: latencies}, []string{"decision"}),
		upstream: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "sallyport_sidecar_upstream_duration_seconds", Help: "Time from sending a request upstream to the head of its response.", Buckets: latencies}),
		sent: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sallyport_sidecar_request_bytes_total", Help: "Bytes of request bodies."}),
		received: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sallyport_sidecar_response_bytes_total", Help: "Bytes of response bodies."}),
		redactions: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sallyport_sidecar_redactions_total", Help: "Places in responses where material was masked."}),
		spliced: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_sidecar_passthrough_bytes_total", Help: "Bytes of connections passed through, when they have ended."}, []string{"direction"}),
	}
	m.registry.MustRegister(m.requests, m.refusals, m.connections, m.duration, m.upstream, m.sent, m.received, m.redactions, m.spliced,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.registry.MustRegister(gauges(w)...)
	return m
}

// gauges are read from the parts when they are scraped.
func gauges(w *worker) []prometheus.Collector {
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	counter := func(result string, value func() uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "sallyport_sidecar_audit_events_total", Help: "Audit events by what became of them.", ConstLabels: prometheus.Labels{"result": result},
		}, func() float64 { return float64(value()) })
	}
	return []prometheus.Collector{
		gauge("sallyport_sidecar_open_connections", "Connections of the sandbox that are open.", func() float64 { return float64(w.gate.Open()) }),
		gauge("sallyport_sidecar_bindings", "Bindings in place.", func() float64 { return float64(len(w.served.Load().bound)) }),
		gauge("sallyport_sidecar_bindings_revision", "Revision of the bindings in place; 0 while nothing is served.", func() float64 { return float64(w.served.Load().revision) }),
		gauge("sallyport_sidecar_audit_queue_events", "Audit events that wait for the control plane.", func() float64 { return float64(w.events.Stats().Queued) }),
		gauge("sallyport_sidecar_audit_degraded", "1 while the last use of a credential could not be recorded where the team's audit wants it, and was refused.", func() float64 {
			if w.events.Stats().Degraded {
				return 1
			}
			return 0
		}),
		counter("reported", func() uint64 { return w.events.Stats().Reported }),
		counter("refused", func() uint64 { return w.events.Stats().Refused }),
		counter("dropped", func() uint64 { return w.events.Stats().Dropped }),
		counter("rejected", func() uint64 { return w.events.Stats().Rejected }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "sallyport_sidecar_build_info", Help: "Always 1; the build is in the label.", ConstLabels: prometheus.Labels{"version": w.config.Version},
		}, func() float64 { return 1 }),
	}
}

func (m *metrics) connected(flow *gate.Flow) {
	protocol := "plain"
	switch {
	case flow.Protocol == "h2":
		protocol = "h2"
	case flow.TLS:
		protocol = "http/1.1"
	}
	m.connections.WithLabelValues(protocol).Inc()
}

func (m *metrics) passed(p gate.Passage) {
	m.connections.WithLabelValues("passthrough").Inc()
	m.spliced.WithLabelValues("sent").Add(float64(p.Sent))
	m.spliced.WithLabelValues("received").Add(float64(p.Received))
}

func (m *metrics) observe(x *proxy.Exchange) {
	m.requests.WithLabelValues(x.Decision, strconv.Itoa(x.Status/100)+"xx").Inc()
	m.duration.WithLabelValues(x.Decision).Observe(x.Duration.Seconds())
	if x.Upstream > 0 {
		m.upstream.Observe(x.Upstream.Seconds())
	}
	if x.Reason != "" {
		m.refusals.WithLabelValues(x.Reason).Inc()
	}
	m.sent.Add(float64(x.RequestBytes))
	m.received.Add(float64(x.ResponseBytes))
	m.redactions.Add(float64(x.Redactions))
}

func (m *metrics) serve(ctx context.Context, listener net.Listener) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: scrapeTimeout, WriteTimeout: scrapeTimeout, IdleTimeout: scrapeTimeout}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(netutil.LimitListener(listener, mostScrapes)); ctx.Err() == nil {
		return fmt.Errorf("serve metrics: %w", err)
	}
	return nil
}
