// Package policy reads, checks and explains what an agent may reach. Deciding by
// it is the sidecar's.
package policy

import (
	"slices"

	"sallyport/control"
	"sallyport/control/api"
)

// Check gives a policy in its normal form, in which its hosts are spelt as
// api.PolicyHost does and none is there twice. A policy that can't be meant is
// CodeInvalid, with the rule and the field.
func Check(p control.Policy) (control.Policy, error) {
	normal := control.Policy{Default: p.Default, Rules: slices.Clone(p.Rules)}
	if normal.Default == "" {
		normal.Default = control.ActionInspect
	}
	if normal.Rules == nil {
		normal.Rules = []control.PolicyRule{}
	}
	if err := api.CheckPolicy(Wire(normal)); err != nil {
		return control.Policy{}, control.Errorf(control.CodeInvalid, "%v", err)
	}
	for i := range normal.Rules {
		rule := &normal.Rules[i]
		rule.Hosts = hostNames(hosts(rule.Hosts))
		rule.Ports, rule.Methods, rule.Paths = distinct(rule.Ports), distinct(rule.Methods), distinct(rule.Paths)
	}
	return normal, nil
}

// hosts reads what CheckPolicy has accepted.
func hosts(texts []string) []api.PolicyHost {
	var all []api.PolicyHost
	for _, text := range texts {
		if h, err := api.ParsePolicyHost(text); err == nil {
			all = append(all, h)
		}
	}
	return all
}

func hostNames(hosts []api.PolicyHost) []string {
	var names []string
	for _, h := range distinct(hosts) {
		names = append(names, h.String())
	}
	return names
}

// distinct gives each element once, in the order of the first.
func distinct[T comparable](all []T) []T {
	var once []T
	for _, v := range all {
		if !slices.Contains(once, v) {
			once = append(once, v)
		}
	}
	return once
}

// Wire is a policy as sidecars are told it. An action that is none becomes one
// that CheckPolicy refuses.
func Wire(p control.Policy) *api.Policy {
	wire := &api.Policy{Default: action(p.Default)}
	for _, r := range p.Rules {
		wire.Rules = append(wire.Rules, &api.PolicyRule{
			Action: action(r.Action), Hosts: r.Hosts, Ports: r.Ports, Methods: r.Methods, Paths: r.Paths,
		})
	}
	return wire
}

func action(a control.Action) api.Action {
	switch a {
	case control.ActionInspect:
		return api.Action_ACTION_INSPECT
	case control.ActionPassthrough:
		return api.Action_ACTION_PASSTHROUGH
	case control.ActionDeny:
		return api.Action_ACTION_DENY
	}
	return -1
}
