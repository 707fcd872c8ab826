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
	"sallyport/sidecar/gate"
	"sallyport/sidecar/proxy"
	"sallyport/sidecar/strict"
)

// refused records a flow that did not become a request.
func (w *worker) refused(flow *gate.Flow, refusal *gate.Refusal) {
	if refusal.Code == "client_gone" || refusal.Code == "closing" {
		return // nothing was asked for
	}
	hint := refusal.Hint
	switch refusal.Code {
	case "untrusted_ca":
		hint += "; let it read SSL_CERT_FILE or the system's bundle, or if it pins certificates, " + w.remedy(flow)
	case "alpn_refused", "old_tls":
		hint += "; " + w.remedy(flow)
	}
	w.metrics.refusals.WithLabelValues(refusal.Code).Inc()
	w.log.Warn("connection refused", "code", refusal.Code, "destination", destination(flow), "sni", flow.SNI, "hint", hint)
	w.refusal(flow, refusal.Code)
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
	w.spare(&api.Event{
		Time:     timestamppb.New(flow.Accepted),
		Host:     host,
		Port:     uint32(flow.Original.Port()),
		Decision: proxy.Refuse,
		Reason:   code,
		Duration: durationpb.New(time.Since(flow.Accepted)),
	})
}

// spare records an event only while half the queue is free, so that a flood of
// refusals can't keep the use of credentials from being recorded.
func (w *worker) spare(e *api.Event) {
	if w.events.Stats().Queued < auditCapacity/2 {
		w.events.Add(e)
	}
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
// same request id, comes when it ends, which may be in hours.
func (w *worker) opened(x *proxy.Exchange) error {
	if x.Credential != "" && !w.events.Reserve(context.Background()) {
		return errAuditFull
	}
	begun := *x
	begun.Reason, begun.Duration = "opened", time.Since(x.Start)
	w.record(&begun)
	return nil
}

func (w *worker) record(x *proxy.Exchange) {
	event := &api.Event{
		Time:          timestamppb.New(x.Start),
		RequestId:     x.ID,
		Host:          x.Host,
		Port:          uint32(x.Port),
		Method:        x.Method,
		Path:          x.Path,
		Protocol:      x.Protocol,
		Decision:      x.Decision,
		Reason:        x.Reason,
		Status:        uint32(x.Status),
		CredentialId:  x.Credential,
		Version:       x.Version,
		LeaseId:       x.Lease,
		RequestBytes:  x.RequestBytes,
		ResponseBytes: x.ResponseBytes,
		Duration:      durationpb.New(x.Duration),
		Upstream:      durationpb.New(x.Upstream),
		Redactions:    uint32(x.Redactions),
	}
	if x.Credential != "" {
		w.events.Record(event) // its place was reserved by the plan
		return
	}
	w.spare(event)
}
