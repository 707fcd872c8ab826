package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"sallyport/control"
	"sallyport/control/admin"
	"sallyport/control/agentapi"
	"sallyport/control/api"
	"sallyport/control/store"
	"sallyport/sidecar/bind"
)

// explainer decides about a request with what a sidecar would be told, as that does.
func explainer(sidecars *agentapi.Server) admin.Explainer {
	return func(known store.AgentPolicy, t control.Target) (control.Explanation, error) {
		told := sidecars.Served(known.Policy, known.Credentials)
		table, err := bind.New(told.GetBindings(), told.GetDestinations(), told.GetPolicy())
		if err != nil {
			return control.Explanation{}, err
		}
		e := decide(table, t)
		for _, c := range known.Credentials {
			if c.Vault+"/"+c.Name != e.Credential {
				continue
			}
			if !c.Limits.None() {
				e.Limits = c.Limits.String()
			}
			if e.Decision == "inject" {
				for _, rule := range c.Inject {
					e.Inject = append(e.Inject, rule.String())
				}
			}
		}
		return e, nil
	}
}

func decide(table *bind.Table, t control.Target) control.Explanation {
	if !table.SpeaksHTTP(t.Port) {
		return refused("port_refused", fmt.Sprintf("port %d is not one of 443, 80, a credential's or the policy's", t.Port))
	}
	route := table.Route(bind.Destination{Host: t.Host, Port: t.Port})
	if route.Action == api.Action_ACTION_PASSTHROUGH {
		return control.Explanation{Decision: "passthrough", Reason: "by " + ruleName(route.Rule) + " the connection is handed on unread, so nothing is injected"}
	}
	permitted, err := table.Permit(bind.Request{Host: t.Host, Port: t.Port, TLS: t.TLS, Method: t.Method, Path: t.Path})
	switch {
	case errors.Is(err, bind.ErrPath):
		return refused("bad_path", err.Error())
	case err != nil:
		return refused("policy_denied", err.Error())
	}
	b, err := permitted.Binding()
	switch {
	case err != nil:
		return refused("binding_tie", err.Error())
	case b == nil && !t.TLS && table.Bound(t.Host, 443, true):
		return control.Explanation{Decision: "inspect", Reason: "plain HTTP gets no credential, unless that is stored with --allow-http"}
	case b == nil:
		return control.Explanation{Decision: "inspect", Reason: "no pinned credential is for this host and port"}
	}
	e := use(permitted, b, t.Method)
	e.Credential, e.Version = b.GetVault()+"/"+b.GetName(), int64(b.GetVersion())
	return e
}

// use is what becomes of a request that a binding serves.
func use(permitted bind.Permitted, b *api.Binding, method string) control.Explanation {
	var limit *bind.LimitError
	switch _, err := permitted.Use(b, time.Now()); {
	case errors.As(err, &limit):
		return refused(limit.Code(), err.Error())
	case err != nil:
		return refused("bad_path", err.Error())
	}
	rule, err := permitted.Mint(b)
	switch {
	case errors.Is(err, bind.ErrPath):
		return refused("bad_path", err.Error())
	case err != nil:
		return refused("mint_refused", err.Error())
	}
	e := control.Explanation{Decision: "inject", Reason: "the credential serves the host, and the request is within its limits"}
	if rule != nil {
		e.Notes = append(e.Notes, "new secrets in the answer: "+rule.GetRule())
	}
	fallBack(&e, method, b, rule)
	switch b.GetLimits().GetApproval() {
	case api.Approval_APPROVAL_FIRST:
		e.Notes = append(e.Notes, "a sandbox's first request with this version waits until a person approves it")
	case api.Approval_APPROVAL_EACH:
		e.Notes = append(e.Notes, "it waits until a person approves it")
	}
	return e
}

// fallBack says of a credential in an overlap whether a request that is answered 401 is
// sent once more with the version before.
func fallBack(e *control.Explanation, method string, b *api.Binding, newSecrets *api.Mint) {
	f := b.GetFallback()
	if f == nil || !time.Now().Before(f.GetUntil().AsTime()) {
		return
	}
	before := fmt.Sprintf("version %d is good until %s beside version %d", f.GetVersion(), f.GetUntil().AsTime().UTC().Format(time.RFC3339), b.GetVersion())
	switch {
	case newSecrets != nil:
		e.Notes = append(e.Notes, before+", but what makes new secrets is sent once, so that a 401 reaches the agent")
	case !slices.Contains([]string{"GET", "HEAD", "OPTIONS", "PUT", "DELETE"}, method):
		e.Notes = append(e.Notes, before+", but a "+method+" is sent once, so that a 401 reaches the agent: only GET, HEAD, OPTIONS, PUT and DELETE without a body are sent again")
	default:
		e.Overlap = &control.Overlap{Version: int64(f.GetVersion()), Until: f.GetUntil().AsTime()}
	}
}

func refused(code, reason string) control.Explanation {
	return control.Explanation{Decision: "refuse", Code: code, Reason: reason}
}

func ruleName(number int) string {
	if number == 0 {
		return "the policy's default"
	}
	return fmt.Sprintf("rule %d of the policy", number)
}
