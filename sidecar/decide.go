package sidecar

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"

	"sallyport/control/api"
	"sallyport/sidecar/bind"
	"sallyport/sidecar/gate"
)

// admit refuses a flow by its port. Where the policy passes through what a server
// may begin, it says where to.
func (w *worker) admit(ctx context.Context, flow *gate.Flow) gate.Verdict {
	if flow.Direct {
		return gate.Verdict{}
	}
	flow.Name = flow.Connect
	now, port := w.current(ctx), flow.Original.Port()
	switch {
	case now.table.PassesPort(port) && port != 443 && port != 80:
		if r := w.route(ctx, now, flow); r.Action == api.Action_ACTION_PASSTHROUGH {
			return gate.Verdict{Route: gateRoute(flow, r)}
		}
	case !now.table.SpeaksHTTP(port):
		return refuse("port_refused", "only 443, 80 and the ports of pinned credentials and of the agent's policy are open; %s", w.remedy(flow))
	}
	return gate.Verdict{}
}

// decide says what becomes of a flow whose client has spoken.
func (w *worker) decide(ctx context.Context, flow *gate.Flow, look func() io.Reader) gate.Verdict {
	now := w.current(ctx)
	if flow.Direct {
		if flow.TLS {
			return refuse("direct", "who uses the interception port as a proxy speaks HTTP to it, not TLS: http://, not https://")
		}
		return gate.Verdict{}
	}
	if flow.TLS {
		// What has no normal form is nobody's name.
		flow.Name, _ = api.NormalizeHost(flow.SNI)
		if flow.Connect != "" && flow.Name != flow.Connect {
			return refuse("misdirected", "CONNECT was for %s, the TLS connection in it is for %q", flow.Connect, flow.SNI)
		}
	}
	// Of HTTP, what a connection began with says nothing about the requests after it:
	// where a name was allowed, each is read. By an address all of it may pass.
	http := !flow.TLS && now.table.SpeaksHTTP(flow.Original.Port()) && looksHTTP(flow, look())
	if http && (flow.Name != "" || namesHost(flow, look())) {
		return gate.Verdict{}
	}
	r := w.route(ctx, now, flow)
	if r.Action == api.Action_ACTION_PASSTHROUGH && now.refusal == nil && (flow.TLS || r.Rule > 0) && !(http && r.Host != "") {
		return gate.Verdict{Route: gateRoute(flow, r)}
	}
	switch {
	case flow.TLS && flow.Name != "" && now.table.SpeaksHTTP(flow.Original.Port()):
		return gate.Verdict{} // a request is answered even if it is refused
	case !flow.TLS && now.table.SpeaksHTTP(flow.Original.Port()) && speaksHTTP(look()):
		return gate.Verdict{}
	case now.refusal != nil:
		return gate.Verdict{Refusal: &gate.Refusal{Code: now.refusal.Code, Hint: now.refusal.Message}}
	case flow.TLS && flow.Name == "":
		return refuse("no_sni", "the client named no host in its TLS hello; let it connect by name, or %s", w.remedy(flow))
	case !flow.TLS && now.table.SpeaksHTTP(flow.Original.Port()):
		return refuse("not_http", "what the client speaks is neither TLS nor HTTP; %s", w.remedy(flow))
	case r.Rule > 0:
		return refuse("policy_denied", "rule %d of the agent's policy denies it", r.Rule)
	}
	return refuse("policy_denied", "no rule of the agent's policy lets it pass; %s", w.remedy(flow))
}

// route asks the policy about a flow.
func (w *worker) route(ctx context.Context, now *served, flow *gate.Flow) bind.Route {
	address, port := flow.Original.Addr(), flow.Original.Port()
	d := bind.Destination{Host: flow.Name, Address: unnamed(flow), Port: port}
	if flow.Name == "" && address.IsValid() {
		led := w.resolver.Led(ctx, now.table.AskedNames(address, port), address)
		d.Leads = func(name string) bool { return led[name] }
	}
	return now.table.Route(d)
}

// unnamed is the address that a flow without a name is for. Of one with a name,
// where the client was led to does not matter.
func unnamed(flow *gate.Flow) netip.Addr {
	if flow.Name != "" {
		return netip.Addr{}
	}
	return flow.Original.Addr()
}

func gateRoute(flow *gate.Flow, r bind.Route) *gate.Route {
	route := &gate.Route{Host: r.Host, Port: flow.Original.Port()}
	if r.Host == "" {
		route.Address = flow.Original.Addr()
	}
	return route
}

// still reports whether a flow may go on to be passed through to a route.
func (w *worker) still(flow *gate.Flow, route gate.Route) bool {
	now := w.served.Load()
	if now.refusal != nil || flow.Dialled.IsValid() && now.table.Connect(route.Host, route.Port, flow.Dialled) != nil {
		return false
	}
	r := now.table.Route(bind.Destination{
		Host: flow.Name, Address: unnamed(flow), Port: route.Port,
		Leads: func(name string) bool { return name == route.Host },
	})
	return (flow.TLS || r.Rule > 0) && r.Action == api.Action_ACTION_PASSTHROUGH && *gateRoute(flow, r) == route
}

// mayAsk reports whether a name may be asked for upstream: only if anything may
// be sent to it, for a question can carry data as well.
func (w *worker) mayAsk(name string) bool { return w.served.Load().table.Reachable(name) }

func refuse(code, format string, args ...any) gate.Verdict {
	return gate.Verdict{Refusal: &gate.Refusal{Code: code, Hint: fmt.Sprintf(format, args...)}}
}

// remedy says how a flow could be passed through.
func (w *worker) remedy(flow *gate.Flow) string {
	place := cmp.Or(flow.Name, flow.Original.Addr().String())
	if port := flow.Original.Port(); port != 443 && port != 80 {
		place = net.JoinHostPort(place, strconv.Itoa(int(port)))
	}
	agent := w.identity.Agent()
	return fmt.Sprintf("to pass it through unread: sallyport agent policy set %s --rule 'passthrough %s', with the rules that 'sallyport agent policy show %s' prints", agent, place, agent)
}
