package agentapi

import (
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"

	"sallyport/control"
	"sallyport/control/api"
)

// Metrics counts what the sidecar API does.
type Metrics struct {
	calls     *prometheus.CounterVec
	fetches   *prometheus.CounterVec
	pushes    prometheus.Counter
	rotation  prometheus.Histogram
	strangers prometheus.Counter
	events    prometheus.Counter

	registerer prometheus.Registerer
}

// NewMetrics makes the metrics and registers them.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_control_sidecar_calls_total",
			Help: "Calls of the sidecar API that have ended, by procedure and Connect code.",
		}, []string{"procedure", "code"}),
		fetches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_control_fetches_total",
			Help: "Requests for material, by result: granted, unbound, revoked, limited or error.",
		}, []string{"result"}),
		pushes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sallyport_control_watch_pushes_total",
			Help: "Snapshots sent to sidecars.",
		}),
		rotation: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "sallyport_control_rotation_propagation_seconds",
			Help:    "From the announcement of a rotated credential to the acknowledgement of one sidecar.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}),
		strangers: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sallyport_control_stranger_fetches_total",
			Help: "Requests for material by somebody who has a sandbox's identity and does not hold its stream.",
		}),
		events: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sallyport_control_audit_events_stored_total",
			Help: "Audit events of sidecars that were stored, events sent again included.",
		}),
		registerer: r,
	}
	r.MustRegister(m.calls, m.fetches, m.pushes, m.rotation, m.strangers, m.events)
	return m
}

// watch makes metrics of the hub's size and of whether events can be recorded.
func (m *Metrics) watch(h *hub, degraded func() error) {
	m.registerer.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sallyport_control_connected_sidecars",
		Help: "Sidecars whose stream this replica holds.",
	}, func() float64 { return float64(h.size()) }), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sallyport_control_audit_degraded",
		Help: "1 while the last audit event of this replica could not be recorded, so that leases, reports and changes are refused.",
	}, func() float64 {
		if degraded() != nil {
			return 1
		}
		return 0
	}))
}

func (m *Metrics) called(procedure string, err error) {
	switch procedure {
	case api.SidecarServiceEnrollProcedure, api.SidecarServiceRenewProcedure, api.SidecarServiceWatchProcedure,
		api.SidecarServiceFetchProcedure, api.SidecarServiceReportProcedure, api.SidecarServiceAllotProcedure, api.SidecarServiceApproveProcedure:
	default:
		procedure = "unknown"
	}
	code := "ok"
	if err != nil {
		code = connect.CodeOf(err).String()
	}
	m.calls.WithLabelValues(procedure, code).Inc()
}

func (m *Metrics) fetched(err error) {
	result := "error"
	switch {
	case err == nil:
		result = "granted"
	case connect.CodeOf(err) == connect.CodeResourceExhausted:
		result = "limited"
	case control.CodeOf(err) == control.CodeNotFound:
		result = "unbound"
	case control.CodeOf(err) == control.CodeForbidden:
		result = "revoked"
	}
	m.fetches.WithLabelValues(result).Inc()
}

func (m *Metrics) strange()                   { m.strangers.Inc() }
func (m *Metrics) pushed()                    { m.pushes.Inc() }
func (m *Metrics) stored(events int)          { m.events.Add(float64(events)) }
func (m *Metrics) propagated(d time.Duration) { m.rotation.Observe(d.Seconds()) }
