package sidecar

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"sallyport/control/api"
	"sallyport/sidecar/audit"
	"sallyport/sidecar/gate"
	"sallyport/sidecar/proxy"
	"sallyport/sidecar/strict"
)

// refused records a flow that did not become a request.
func (w *worker) refused(flow *gate.Flow, refusal *gate.Refusal) {
	if refusal.Code == "client_gone" || refusal.Code == "closing" {
		return // nothing was asked for
	}
	hint := w.hint(flow, refusal)
	w.metrics.refusals.WithLabelValues(refusal.Code).Inc()
	w.log.Warn("connection refused", "code", refusal.Code, "destination", destination(flow), "sni", flow.SNI, "hint", hint)
	w.refusal(flow, refusal.Code)
}

// hint adds to a refusal what would let the flow pass. A host with a credential
// is never passed through.
func (w *worker) hint(flow *gate.Flow, refusal *gate.Refusal) string {
	bound := w.boundHost(flow)
	switch {
	case refusal.Code == "untrusted_ca" && bound:
		return refusal.Hint + "; let it read SSL_CERT_FILE or the system's bundle; if it pins certificates it can't be used here, as " + flow.Name + " has a credential and is never passed through"
	case refusal.Code == "untrusted_ca":
		return refusal.Hint + "; let it read SSL_CERT_FILE or the system's bundle, or if it pins certificates, " + w.remedy(flow)
	case (refusal.Code == "alpn_refused" || refusal.Code == "old_tls") && bound:
		return refusal.Hint + "; such a client can't be used here, as " + flow.Name + " has a credential and is never passed through"
	case refusal.Code == "alpn_refused", refusal.Code == "old_tls":
		return refusal.Hint + "; " + w.remedy(flow)
	}
	return refusal.Hint
}

// boundHost reports whether a credential is for the flow's host, or several are.
func (w *worker) boundHost(flow *gate.Flow) bool {
	table, port := w.served.Load().table, flow.Original.Port()
	for _, tls := range []bool{true, false} {
		if table.Bound(flow.Name, port, tls) {
			return true
		}
	}
	return false
}

// malformed records a request that the strict reader refused.
func (w *worker) malformed(flow *gate.Flow, e *strict.Error) {
	w.metrics.refusals.WithLabelValues(e.Code).Inc()
	w.log.Warn("request refused", "code", e.Code, "host", flow.SNI, "reason", e.Message)
	w.refusal(flow, e.Code)
}

// malformedHTTP2 counts what was refused of HTTP/2 before it was a request. Whose
// it was is not known, so there is no event of it.
func (w *worker) malformedHTTP2(kind string) {
	w.metrics.refusals.WithLabelValues("malformed_request").Inc()
	w.log.Debug("HTTP/2 refused", "kind", kind)
}

// destination is where the client wanted to go, as far as it said.
func destination(flow *gate.Flow) string {
	if flow.Original.Addr().IsValid() {
		return flow.Original.String()
	}
	return net.JoinHostPort(flow.Connect, strconv.Itoa(int(flow.Original.Port())))
}

func (w *worker) refusal(flow *gate.Flow, code string) {
	host := cmp.Or(flow.Name, flow.SNI, flow.Connect)
	if host == "" {
		host = flow.Original.Addr().String()
	}
	w.events.Add(&api.Event{
		Time:     timestamppb.New(flow.Accepted),
		Host:     host,
		Port:     uint32(flow.Original.Port()),
		Decision: proxy.Refuse,
		Reason:   code,
		Duration: durationpb.New(time.Since(flow.Accepted)),
	})
}

// finish records a request.
func (w *worker) finish(x *proxy.Exchange, err error) {
	w.metrics.observe(x)
	level := slog.LevelDebug
	if x.Reason != "" && x.Reason != "client_gone" {
		level = slog.LevelWarn
	}
	if w.log.Enabled(context.Background(), level) { // its arguments cost more than all else here
		w.log.Log(context.Background(), level, "request", "request_id", x.ID, "host", x.Host, "port", x.Port, "method", x.Method,
			"decision", x.Decision, "code", x.Reason, "status", x.Status, "duration", x.Duration, "error", err)
	}
	w.record(x)
}

// opened records that a connection changes its protocol: its own event, with the
// same request id, comes when it ends, which may be in hours. What could not be recorded
// so long is refused.
func (w *worker) opened(x *proxy.Exchange) error {
	if !w.events.Reserve(context.Background()) {
		return auditFull("no connection changes its protocol", w.events.Exhausted())
	}
	begun := *x
	begun.Reason, begun.Duration = "opened", time.Since(x.Start)
	w.events.Record(eventOf(&begun))
	return nil
}

// intend records that a request goes out with a credential, before it does.
func (w *worker) intend(ctx context.Context, x *proxy.Exchange) error {
	intent, err := w.events.Intend(ctx, w.served.Load().audit, eventOf(x))
	x.Intent = intent
	return err
}

// recalled records that a request is decided anew, which was not sent as it was decided,
// or perhaps was.
func (w *worker) recalled(x *proxy.Exchange, perhaps bool) {
	switch {
	case x.Intent != nil: // which was recorded, perhaps on a disk
		first := *x
		first.Reason, first.Duration = audit.Unknown, time.Since(x.Start)
		if !perhaps {
			first.Decision, first.Reason = proxy.Refuse, calledBack
		}
		w.record(&first)
	case x.Credential != "":
		w.events.Cancel()
	}
}

// calledBack is the reason in the event of a request that is decided anew.
const calledBack = "recalled"

// record puts a request's event in the place that the plan reserved, if a
// credential was to be used. Others find one or are dropped.
func (w *worker) record(x *proxy.Exchange) {
	if intent, ok := x.Intent.(*audit.Intent); ok {
		setOutcome(intent.Event, x)
		w.events.Complete(intent)
		return
	}
	if x.Credential != "" {
		w.events.Record(eventOf(x))
		return
	}
	w.events.Add(eventOf(x))
}

// eventOf makes an event of a request's record, in one piece of memory.
func eventOf(x *proxy.Exchange) *api.Event {
	e := &struct {
		api.Event
		time               timestamppb.Timestamp
		duration, upstream durationpb.Duration
	}{}
	setTime(&e.time, x.Start)
	e.Time, e.Event.Duration, e.Event.Upstream = &e.time, &e.duration, &e.upstream
	e.RequestId = x.ID
	e.Host, e.Port = x.Host, uint32(x.Port)
	e.Method, e.Path, e.Protocol = x.Method, x.Path, x.Protocol
	e.CredentialId, e.Version, e.LeaseId = x.Credential, x.Version, x.Lease
	setOutcome(&e.Event, x)
	return &e.Event
}

// setOutcome fills in what is known when a request is over.
func setOutcome(e *api.Event, x *proxy.Exchange) {
	setDuration(e.Duration, x.Duration)
	setDuration(e.Upstream, x.Upstream)
	e.Decision, e.Reason, e.Status = x.Decision, x.Reason, uint32(x.Status)
	e.RequestBytes, e.ResponseBytes = x.RequestBytes, x.ResponseBytes
	e.Redactions = uint32(x.Redactions)
}

func setTime(to *timestamppb.Timestamp, t time.Time) {
	to.Seconds, to.Nanos = t.Unix(), int32(t.Nanosecond())
}

func setDuration(to *durationpb.Duration, d time.Duration) {
	to.Seconds, to.Nanos = int64(d/time.Second), int32(d%time.Second)
}
