package api

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// Bounds of a policy, so that deciding by it stays cheap.
const (
	MaxPolicyRules   = 256
	MaxPolicyEntries = 4096 // hosts, ports, methods and paths of all its rules
)

// PolicyError says which part of a Policy is wrong.
type PolicyError struct {
	Rule  int    // from 1; 0 for the policy as a whole
	Field string // as JSON names it: "default", "rules", "action", "hosts", "ports", "methods" or "paths"
	Err   error
}

func (e *PolicyError) Error() string {
	if e.Rule == 0 {
		return fmt.Sprintf("%s: %v", e.Field, e.Err)
	}
	return fmt.Sprintf("rule %d, %s: %v", e.Rule, e.Field, e.Err)
}

func (e *PolicyError) Unwrap() error { return e.Err }

// CheckPolicy reports, as a *PolicyError, why a policy can't be meant, if it
// can't. No policy is one without rules.
func CheckPolicy(p *Policy) error {
	if err := checkAction(p.GetDefault()); err != nil {
		return &PolicyError{Field: "default", Err: err}
	}
	if n := len(p.GetRules()); n > MaxPolicyRules {
		return &PolicyError{Field: "rules", Err: fmt.Errorf("%d rules, at most %d are possible", n, MaxPolicyRules)}
	}
	entries := 0
	for i, r := range p.GetRules() {
		if field, err := checkPolicyRule(r); err != nil {
			return &PolicyError{Rule: i + 1, Field: field, Err: err}
		}
		entries += len(r.GetHosts()) + len(r.GetPorts()) + len(r.GetMethods()) + len(r.GetPaths())
	}
	if entries > MaxPolicyEntries {
		return &PolicyError{Field: "rules", Err: fmt.Errorf("%d hosts, ports, methods and paths in all, at most %d are possible", entries, MaxPolicyEntries)}
	}
	return nil
}

func checkPolicyRule(r *PolicyRule) (field string, err error) {
	if err := checkAction(r.GetAction()); err != nil {
		return "action", err
	}
	for _, host := range r.GetHosts() {
		if _, err := ParsePolicyHost(host); err != nil {
			return "hosts", err
		}
	}
	for _, port := range r.GetPorts() {
		if port == 0 || port > math.MaxUint16 {
			return "ports", fmt.Errorf("%d is no port; they go from 1 to %d", port, math.MaxUint16)
		}
	}
	passes := r.GetAction() == Action_ACTION_PASSTHROUGH
	switch {
	case passes && len(r.GetMethods()) > 0:
		return "methods", errPassedUnread
	case passes && len(r.GetPaths()) > 0:
		return "paths", errPassedUnread
	}
	for _, method := range r.GetMethods() {
		if err := checkMethod(method); err != nil {
			return "methods", err
		}
	}
	for _, path := range r.GetPaths() {
		if err := checkPath(path); err != nil {
			return "paths", fmt.Errorf("%q: %w", path, err)
		}
	}
	return "", nil
}

var errPassedUnread = errors.New("what is passed through is not read, so such a rule has no methods and no paths; inspect can have them")

func checkAction(a Action) error {
	switch a {
	case Action_ACTION_UNSPECIFIED, Action_ACTION_INSPECT, Action_ACTION_PASSTHROUGH, Action_ACTION_DENY:
		return nil
	}
	return errors.New("the action must be inspect, passthrough or deny")
}

// checkMethod refuses what is no token (RFC 9110 section 5.6.2) and what differs
// from a registered method only in case: methods are told apart by it.
func checkMethod(method string) error {
	upper := strings.ToUpper(method)
	switch {
	case method == "":
		return errors.New("a method is empty")
	case method == "*":
		return errors.New("a rule without methods is about any; no method is called *")
	case strings.ContainsFunc(method, func(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, c) }):
		return fmt.Errorf("the method %q has a character that no method has", method)
	case method != upper:
		return fmt.Errorf("the method %q: write it as %s", method, upper)
	}
	return nil
}

// checkPath refuses what PathSegments does, and what a request can't have
// unescaped, so that there is one way to write a path.
func checkPath(path string) error {
	if _, err := PathSegments(path); err != nil {
		return err
	}
	if i := strings.IndexFunc(path, func(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune("\"<>[]^`{|}", c) }); i >= 0 {
		return errors.New("a character that a path can't hold (RFC 3986 section 3.3); percent-encode it")
	}
	return nil
}
