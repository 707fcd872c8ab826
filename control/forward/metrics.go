package forward

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/control/store"
)

// Metrics counts what is forwarded, by receiver. The replica that sends has the lag; on
// the others it is 0.
type Metrics struct {
	registerer prometheus.Registerer
	events     *prometheus.CounterVec
	errors     *prometheus.CounterVec
	lost       *prometheus.CounterVec
}

// Why events are lost to a receiver.
const (
	removed   = "retention" // before it had them
	notWanted = "refused"   // by it, for good
)

// NewMetrics makes the metrics and registers them.
func NewMetrics(r prometheus.Registerer) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append([]string{"receiver"}, labels...))
	}
	m := &Metrics{
		registerer: r,
		events:     counter("sallyport_control_audit_forwarded_total", "Audit events that a receiver has accepted, those sent again included."),
		errors:     counter("sallyport_control_audit_forward_errors_total", "Times that a receiver, or its place in the database, could not be reached, or refused."),
		lost:       counter("sallyport_control_audit_forward_lost_total", "Audit events that retention removed before a receiver had them, or that it refused for good.", "reason"),
	}
	r.MustRegister(m.events, m.errors, m.lost)
	return m
}

// counted is what is counted of one receiver.
type counted struct {
	metrics  *Metrics
	receiver string

	mu      sync.Mutex
	waiting int64
	since   map[string]time.Time // when the next event of a team that waits was recorded
}

func (m *Metrics) of(receiver string) *counted {
	c := &counted{metrics: m, receiver: receiver, since: make(map[string]time.Time)}
	labels := prometheus.Labels{"receiver": receiver}
	m.registerer.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sallyport_control_audit_forward_lag_events", Help: "Audit events that were recorded and that a receiver has not accepted.", ConstLabels: labels,
	}, func() float64 {
		c.mu.Lock()
		defer c.mu.Unlock()
		return float64(c.waiting)
	}), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sallyport_control_audit_forward_lag_seconds", Help: "Since the oldest of them was recorded.", ConstLabels: labels,
	}, c.age))
	for _, v := range []*prometheus.CounterVec{m.events, m.errors} {
		v.WithLabelValues(receiver)
	}
	for _, reason := range []string{removed, notWanted} {
		m.lost.WithLabelValues(receiver, reason)
	}
	return c
}

func (c *counted) age() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	oldest := time.Time{}
	for _, at := range c.since {
		if oldest.IsZero() || at.Before(oldest) {
			oldest = at
		}
	}
	if oldest.IsZero() {
		return 0
	}
	return max(0, time.Since(oldest).Seconds())
}

// behind takes what waits.
func (c *counted) behind(chains []store.Behind) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = 0
	still := make(map[string]time.Time)
	for _, b := range chains {
		c.waiting += b.End - b.Position
		if at, found := c.since[b.TeamID]; found {
			still[b.TeamID] = at
		}
	}
	c.since = still
}

// oldest takes when the next event of a team was recorded.
func (c *counted) oldest(team string, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.since[team] = at
}

// accepted takes by how much a chain has moved on, and how many events were sent.
func (c *counted) accepted(team string, moved, events int64) {
	c.metrics.events.WithLabelValues(c.receiver).Add(float64(events))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = max(0, c.waiting-moved)
	delete(c.since, team)
}

func (c *counted) failed() { c.metrics.errors.WithLabelValues(c.receiver).Inc() }

func (c *counted) lose(reason string, n int64) {
	c.metrics.lost.WithLabelValues(c.receiver, reason).Add(float64(n))
}
