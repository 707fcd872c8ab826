// Package registry knows the services that agents call: where each one's key
// may go, how it is sent, and what a placeholder for it looks like. The services
// are data, in services.json; one entry is
//
//	{
//	  "name": "stripe", "title": "Stripe",
//	  "docs": "where its maker documents how the key is sent",
//	  "hosts": ["api.stripe.com"],        host patterns, exact unless the maker gives each customer a host
//	  "auth": "token",                    token or basic
//	  "username": "x",                    of basic, where it is the same for everybody
//	  "inject": ["bearer"],               rules as package control reads them
//	  "stray": "literal",                 model providers only; block when absent
//	  "check": "GET /v1/account",         where its maker documents a request that changes nothing and answers 2xx to a good key only, at the first host
//	  "allow_websocket": true,            where its maker documents WebSockets that take the key at the handshake as "inject" gives it
//	  "placeholders": ["sk_test_…"],      passes the vendor SDK's own check of a key's shape, and says that it is ours
//	  "mints": ["refuse POST /v1/keys json:/secret"]  where its maker documents that new secrets are handed out, and where in the answer they stand
//	}
package registry

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"

	"sallyport/control"
)

//go:embed services.json
var data string

// Service is one entry.
type Service struct {
	Name           string         `json:"name"`
	Title          string         `json:"title"`
	Docs           string         `json:"docs"`
	Hosts          []string       `json:"hosts"`
	Auth           control.Auth   `json:"auth"`
	Username       string         `json:"username,omitempty"` // empty with basic: each credential has its own
	Inject         []control.Rule `json:"inject"`
	Stray          control.Stray  `json:"stray,omitempty"`
	AllowWebsocket bool           `json:"allow_websocket,omitempty"`
	Check          string         `json:"check,omitempty"`
	Placeholders   []string       `json:"placeholders,omitempty"`
	Mints          []control.Mint `json:"mints,omitempty"`
}

// Registry is the services by name. It does not change.
type Registry struct {
	services []Service
	byName   map[string]Service
}

// Load reads the built-in services.
func Load() (*Registry, error) {
	decoder := json.NewDecoder(strings.NewReader(data))
	decoder.DisallowUnknownFields()
	r := &Registry{byName: make(map[string]Service)}
	if err := decoder.Decode(&r.services); err != nil {
		return nil, fmt.Errorf("read the service registry: %w", err)
	}
	for i := range r.services {
		s := &r.services[i]
		if s.Stray == "" {
			s.Stray = control.StrayBlock
		}
		if _, twice := r.byName[s.Name]; twice {
			return nil, fmt.Errorf("read the service registry: %q is there twice", s.Name)
		}
		r.byName[s.Name] = *s
	}
	return r, nil
}

// Services gives every service, by name. The caller must not change them.
func (r *Registry) Services() []Service { return r.services }

// Service finds one by its name.
func (r *Registry) Service(name string) (Service, bool) {
	s, ok := r.byName[name]
	return s, ok
}
