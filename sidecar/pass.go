package sidecar

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"sallyport/control/api"
	"sallyport/control/api/reach"
	"sallyport/sidecar/bind"
	"sallyport/sidecar/gate"
	"sallyport/sidecar/resolve"
)

// tunnel takes a connection that a CONNECT asked to be joined to a host: it goes
// through the gate as if the sandbox had connected to that host itself.
func (w *worker) tunnel(ctx context.Context, c net.Conn, host string, port uint16) {
	outer := gate.FlowOf(c)
	flow := &gate.Flow{Client: outer.Client, Original: netip.AddrPortFrom(netip.Addr{}, port), Accepted: time.Now()}
	if address, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		flow.Original = netip.AddrPortFrom(address.Unmap().WithZone(""), port)
	} else if flow.Connect, err = api.NormalizeHost(host); err != nil {
		flow.Connect = host
		w.refused(flow, &gate.Refusal{Code: "bad_host", Hint: "CONNECT: " + err.Error()})
		c.Close()
		return
	}
	w.gate.Enter(ctx, c, flow)
}

// dialRoute connects to what a flow is passed through to: by the name, or where
// a rule is about addresses to the address itself.
func (w *worker) dialRoute(ctx context.Context, route gate.Route) (net.Conn, *gate.Refusal) {
	host := route.Host
	if host == "" {
		host = route.Address.String()
	}
	conn, err := w.dial(ctx, host, route.Port)
	var denied *bind.DeniedError
	switch {
	case err == nil:
		return conn, nil
	case errors.As(err, &denied):
		return nil, &gate.Refusal{Code: "policy_denied", Hint: err.Error()}
	case errors.Is(err, reach.ErrForbidden):
		return nil, &gate.Refusal{Code: "forbidden_address", Hint: "it has a private, local or metadata address; an operator allows a private service with --connect-to"}
	case errors.Is(err, resolve.ErrNoSuchHost):
		return nil, &gate.Refusal{Code: "no_such_host", Hint: err.Error()}
	}
	return nil, &gate.Refusal{Code: "upstream_unreachable", Hint: err.Error()}
}

// passThrough is the decision about a connection that was passed through, beside
// those of package proxy about requests.
const passThrough = "passthrough"

// passing keeps a place for the event of a flow that is to be passed through: what
// nobody reads is at least recorded.
func (w *worker) passing(ctx context.Context) *gate.Refusal {
	if !w.events.Reserve(ctx) {
		full := auditFull("nothing is passed through", w.events.Exhausted())
		return &gate.Refusal{Code: full.Code, Hint: full.Message}
	}
	return nil
}

// passed records a flow that was passed through.
func (w *worker) passed(flow *gate.Flow, p gate.Passage) {
	host, protocol := p.Route.Host, "TCP"
	if host == "" {
		host = p.Route.Address.String()
	}
	if flow.TLS {
		protocol = "TLS"
	}
	w.metrics.passed(p)
	w.log.Debug("connection passed through", "host", host, "port", p.Route.Port, "protocol", protocol, "reason", p.Reason,
		"sent", p.Sent, "received", p.Received, "duration", p.Duration)
	w.events.Record(&api.Event{
		Time:          timestamppb.New(flow.Accepted),
		Host:          host,
		Port:          uint32(p.Route.Port),
		Protocol:      protocol,
		Decision:      passThrough,
		Reason:        p.Reason,
		RequestBytes:  p.Sent,
		ResponseBytes: p.Received,
		Duration:      durationpb.New(p.Duration),
	})
}
