package agentapi

import (
	"slices"

	"sallyport/control"
	"sallyport/control/api"
	"sallyport/control/registry"
)

// binding is what a sidecar may know of a credential.
func binding(c control.Credential) *api.Binding {
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
	}
	for _, r := range c.Inject {
		b.Inject = append(b.Inject, rule(r))
	}
	return b
}

func rule(r control.Rule) *api.Rule {
	switch r.Kind {
	case control.RuleHeader:
		return &api.Rule{Place: &api.Rule_Header_{Header: &api.Rule_Header{Name: r.Name, Template: r.Template}}}
	case control.RuleDefault:
		return &api.Rule{Place: &api.Rule_Header_{Header: &api.Rule_Header{Name: r.Name, Template: r.Template, OnlyIfAbsent: true}}}
	case control.RuleQuery:
		return &api.Rule{Place: &api.Rule_Query_{Query: &api.Rule_Query{Name: r.Name}}}
	case control.RulePath:
		return &api.Rule{Place: &api.Rule_Path_{Path: &api.Rule_Path{Template: r.Template}}}
	case control.RuleBasic:
		return &api.Rule{Place: &api.Rule_Basic_{Basic: &api.Rule_Basic{}}}
	}
	return &api.Rule{} // no place: a sidecar refuses it
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
