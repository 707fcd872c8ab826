package agentapi

import (
	"slices"

	"google.golang.org/protobuf/types/known/timestamppb"

	"sallyport/control"
	"sallyport/control/api"
	"sallyport/control/exchange"
	"sallyport/control/policy"
	"sallyport/control/registry"
)

// Served is what sidecars of an agent with this policy and these credentials go by.
func (s *Server) Served(p control.Policy, credentials []control.Credential) *api.WatchResponse {
	served := &api.WatchResponse{Destinations: s.destinations, Policy: policy.Wire(p)}
	for _, c := range credentials {
		served.Bindings = append(served.Bindings, s.binding(c))
	}
	return served
}

// binding is what a sidecar may know of a credential.
func (s *Server) binding(c control.Credential) *api.Binding {
	b := &api.Binding{
		CredentialId:   c.ID,
		Vault:          c.Vault,
		Name:           c.Name,
		Version:        uint64(c.Version),
		Hosts:          slices.Clone(c.Hosts),
		AllowHttp:      c.AllowHTTP,
		AllowWebsocket: c.AllowWebsocket,
		Stray:          stray(c.Stray),
		Placeholders:   slices.Clone(c.Placeholders),
		Captured:       c.Captured != nil,
		Limits:         limitsOf(c.Limits),
	}
	if o := c.Overlap; o != nil {
		b.Fallback = &api.Fallback{Version: uint64(o.Version), Until: timestamppb.New(o.Until)}
	}
	for _, r := range c.Inject {
		if c.Auth != control.AuthHMAC || !r.Signs() {
			b.Inject = append(b.Inject, rule(r))
		}
	}
	if c.Auth == control.AuthHMAC {
		b.Inject = append(b.Inject, hmacRule(c))
	}
	for _, m := range s.mints(c) {
		b.Mints = append(b.Mints, mint(m))
	}
	return b
}

func mint(m control.Mint) *api.Mint {
	wire := &api.Mint{Methods: m.Methods, Path: m.Path, TtlPointer: m.TTLAt, Rule: m.String()}
	switch m.Action {
	case control.MintAllow:
		wire.Action = api.MintAction_MINT_ACTION_ALLOW
	case control.MintRefuse:
		wire.Action = api.MintAction_MINT_ACTION_REFUSE
	case control.MintStrip:
		wire.Action = api.MintAction_MINT_ACTION_STRIP
	case control.MintCapture:
		wire.Action = api.MintAction_MINT_ACTION_CAPTURE
	}
	for _, p := range m.Places {
		place := &api.MintPlace{Optional: p.Optional, Strip: p.Strip}
		switch p.Kind {
		case control.MintJSON:
			place.Place = &api.MintPlace_Pointer{Pointer: p.Name}
		case control.MintCookie:
			place.Place = &api.MintPlace_Cookie{Cookie: p.Name}
		case control.MintHeader:
			place.Place = &api.MintPlace_Header{Header: p.Name}
		}
		wire.Places = append(wire.Places, place)
	}
	return wire
}

func rule(r control.Rule) *api.Rule {
	switch r.Kind {
	case control.RuleHeader:
		return &api.Rule{Place: &api.Rule_Header_{Header: &api.Rule_Header{Name: r.Name, Template: r.Template}}}
	case control.RuleDefault:
		return &api.Rule{Place: &api.Rule_Header_{Header: &api.Rule_Header{Name: r.Name, Template: r.Template, OnlyIfAbsent: true}}}
	case control.RuleQuery:
		return &api.Rule{Place: &api.Rule_Query_{Query: &api.Rule_Query{Name: r.Name}}}
	case control.RuleCookie:
		return &api.Rule{Place: &api.Rule_Cookie_{Cookie: &api.Rule_Cookie{Name: r.Name}}}
	case control.RulePath:
		return &api.Rule{Place: &api.Rule_Path_{Path: &api.Rule_Path{Template: r.Template}}}
	case control.RuleSigV4:
		return &api.Rule{Place: &api.Rule_Sigv4{Sigv4: &api.Rule_SigV4{}}}
	case control.RuleClientCert:
		return &api.Rule{Place: &api.Rule_ClientCertificate_{ClientCertificate: &api.Rule_ClientCertificate{}}}
	case control.RuleBasic:
		return &api.Rule{Place: &api.Rule_Basic_{Basic: &api.Rule_Basic{}}}
	}
	return &api.Rule{} // no place: a sidecar refuses it
}

// hmacRule is the one rule that those headers make which hold of a signature.
func hmacRule(c control.Credential) *api.Rule {
	wire := &api.Rule_HMAC{
		Algorithm: c.Settings[exchange.HMACAlgorithm], StringToSign: c.Settings[exchange.HMACStringToSign], Timestamp: c.Settings[exchange.HMACTimestamp],
	}
	for _, r := range c.Inject {
		if r.Signs() {
			wire.Headers = append(wire.Headers, &api.Rule_Header{Name: r.Name, Template: r.Template})
		}
	}
	return &api.Rule{Place: &api.Rule_Hmac{Hmac: wire}}
}

func stray(s control.Stray) api.Stray {
	switch s {
	case control.StrayLiteral:
		return api.Stray_STRAY_LITERAL
	case control.StrayRedact:
		return api.Stray_STRAY_REDACT
	}
	return api.Stray_STRAY_BLOCK
}

// destinations are the hosts whose stray policy holds without any credential:
// a placeholder quoted once in a conversation would otherwise block every later
// call to the model provider.
func destinations(services *registry.Registry) []*api.Destination {
	byStray := make(map[api.Stray]*api.Destination)
	var all []*api.Destination
	for _, s := range services.Services() {
		policy := stray(s.Stray)
		if policy == api.Stray_STRAY_BLOCK {
			continue // the default everywhere
		}
		d := byStray[policy]
		if d == nil {
			d = &api.Destination{Stray: policy}
			byStray[policy] = d
			all = append(all, d)
		}
		d.Hosts = append(d.Hosts, s.Hosts...)
	}
	return all
}
