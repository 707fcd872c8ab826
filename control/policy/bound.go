package policy

import (
	"fmt"
	"slices"
	"strings"

	"sallyport/control"
	"sallyport/control/api"
)

// place is where a credential is used: one of its hosts, at one port.
type place struct {
	credential string // VAULT/NAME
	pattern    string
	host       api.PolicyHost
	port       uint32
}

// boundPlaces are all places of credentials. With allow_http a pattern that names
// no port serves port 80 too.
func boundPlaces(credentials []control.Credential) []place {
	var places []place
	for _, c := range credentials {
		for _, text := range c.Hosts {
			pattern, err := api.ParseHostPattern(text)
			if err != nil {
				continue
			}
			p := place{credential: c.Vault + "/" + c.Name, pattern: text, host: policyHost(pattern), port: uint32(pattern.Port())}
			places = append(places, p)
			if c.AllowHTTP && p.port == httpsPort {
				p.port = httpPort
				places = append(places, p)
			}
		}
	}
	return places
}

// policyHost is the pattern without its port.
func policyHost(p api.HostPattern) api.PolicyHost {
	name := p.Name()
	if p.Wildcard() {
		name = "*." + name
	}
	return hosts([]string{name})[0]
}

// covers reports whether the rule is about all connections to a place.
func (r rule) covers(p place) bool {
	return slices.Contains(r.ports, p.port) && (len(r.hosts) == 0 || r.coversHost(p.host))
}

// meets reports whether the rule is about any of them.
func (r rule) meets(p place) bool {
	return slices.Contains(r.ports, p.port) && (r.covers(p) || slices.ContainsFunc(r.hosts, p.host.Covers))
}

// listed names some of places, and says how many there are more.
func listed(places []place) string {
	const most = 3
	var names []string
	for _, p := range places {
		names = append(names, fmt.Sprintf("%s (credential %s)", p.pattern, p.credential))
	}
	names = distinct(names)
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}
