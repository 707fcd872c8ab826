package policy

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"sallyport/control"
	"sallyport/control/api"
)

// anyHost stands for the hosts of a rule that names none.
const anyHost = "*"

// ParseRule reads a rule's text form, as on the command line:
//
//	ACTION HOST[:PORT][,HOST[:PORT]…] [METHOD[,METHOD…]] [/PATH…]
//
// "*" is any host. An IPv6 address or prefix with a port is in brackets. What the
// parts may be is Check's to say.
func ParseRule(text string) (control.PolicyRule, error) {
	fields := strings.Fields(text)
	if len(fields) < 2 {
		return control.PolicyRule{}, control.Errorf(control.CodeInvalid,
			"the rule %q: want ACTION HOST[:PORT][,…] [METHOD,…] [/PATH…], as in 'deny api.example.com DELETE /v1'; the host * is any", text)
	}
	rule := control.PolicyRule{Action: control.Action(fields[0])}
	if action(rule.Action) < 0 {
		return control.PolicyRule{}, control.Errorf(control.CodeInvalid, "the rule %q: it begins with inspect, passthrough or deny", text)
	}
	var err error
	if rule.Hosts, rule.Ports, err = parsePlaces(fields[1]); err != nil {
		return control.PolicyRule{}, control.Errorf(control.CodeInvalid, "the rule %q: %v", text, err)
	}
	rest := fields[2:]
	if len(rest) > 0 && !strings.HasPrefix(rest[0], "/") {
		rule.Methods, rest = strings.Split(rest[0], ","), rest[1:]
		if slices.Contains(rule.Methods, "") {
			return control.PolicyRule{}, control.Errorf(control.CodeInvalid, "the rule %q: %v", text, errCommas)
		}
	}
	for _, path := range rest {
		if !strings.HasPrefix(path, "/") {
			return control.PolicyRule{}, control.Errorf(control.CodeInvalid,
				"the rule %q: %q is in the place of a path, which begins with /; %v", text, path, errCommas)
		}
		rule.Paths = append(rule.Paths, path)
	}
	return rule, nil
}

var errCommas = control.Errorf(control.CodeInvalid, "hosts and methods are separated by one comma and no space")

// parsePlaces reads HOST[:PORT],…. A rule has hosts and ports, so each of its
// hosts must have been given the same ports.
func parsePlaces(text string) (hosts []string, ports []uint32, err error) {
	byHost := make(map[string][]uint32)
	for place := range strings.SplitSeq(text, ",") {
		if place == "" {
			return nil, nil, errCommas
		}
		host, port, err := parsePlace(place)
		if err != nil {
			return nil, nil, err
		}
		if _, known := byHost[host]; !known {
			hosts = append(hosts, host)
			byHost[host] = nil
		}
		if port != 0 {
			byHost[host] = append(byHost[host], port)
		}
	}
	ports = byHost[hosts[0]]
	for _, host := range hosts {
		switch {
		case host == anyHost && len(hosts) > 1:
			return nil, nil, control.Errorf(control.CodeInvalid, "* is any host; it has no others beside it")
		case !slices.Equal(slices.Sorted(slices.Values(byHost[host])), slices.Sorted(slices.Values(ports))):
			return nil, nil, control.Errorf(control.CodeInvalid, "the ports of a rule are those of all its hosts; write one rule for %s and one for %s", hosts[0], host)
		}
	}
	if hosts[0] == anyHost {
		hosts = nil
	}
	return hosts, ports, nil
}

// parsePlace reads HOST or HOST:PORT; port is 0 if there is none.
func parsePlace(text string) (host string, port uint32, err error) {
	if _, err := api.ParsePolicyHost(text); err == nil {
		return text, 0, nil // an IPv6 address among them
	}
	colon := strings.LastIndexByte(text, ':')
	if colon < 0 || strings.HasSuffix(text, "]") {
		return unbracket(text), 0, nil
	}
	number, err := strconv.ParseUint(text[colon+1:], 10, 16)
	if err != nil || number == 0 {
		return "", 0, control.Errorf(control.CodeInvalid, "%q: want HOST or HOST:PORT, without https://, and a port from 1 to 65535", text)
	}
	return unbracket(text[:colon]), uint32(number), nil
}

func unbracket(host string) string {
	if inner, found := strings.CutPrefix(host, "["); found {
		if inner, found := strings.CutSuffix(inner, "]"); found {
			return inner
		}
	}
	return host
}

// FormatRule gives the form that ParseRule reads.
func FormatRule(r control.PolicyRule) string {
	hosts := r.Hosts
	if len(hosts) == 0 {
		hosts = []string{anyHost}
	}
	var places []string
	for _, host := range hosts {
		if len(r.Ports) == 0 {
			places = append(places, host)
		}
		for _, port := range r.Ports {
			places = append(places, formatPlace(host, port))
		}
	}
	fields := []string{string(r.Action), strings.Join(places, ",")}
	if len(r.Methods) > 0 {
		fields = append(fields, strings.Join(r.Methods, ","))
	}
	return strings.Join(append(fields, r.Paths...), " ")
}

func formatPlace(host string, port uint32) string {
	address, _, _ := strings.Cut(host, "/")
	if a, err := netip.ParseAddr(address); err == nil && a.Is6() {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.FormatUint(uint64(port), 10)
}

// Format is the whole policy in one line, for people.
func Format(p control.Policy) string {
	parts := []string{"default " + string(p.Default)}
	for _, r := range p.Rules {
		parts = append(parts, FormatRule(r))
	}
	return strings.Join(parts, "; ")
}
