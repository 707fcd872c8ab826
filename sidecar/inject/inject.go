// Package inject applies the rules of a credential to a request: it clears
// every place where a client may have put a key of its own, then puts the
// material where the rules say.
package inject

import (
	"net/http"

	"sallyport/control/api"
)

// Clear removes from an outgoing request every key a client may have put there.
func Clear(r *http.Request, rules []*api.Rule) {}

// Apply puts material where the rules say. After an error the request must not be sent.
func Apply(r *http.Request, rules []*api.Rule, m api.Material) error { return nil }

// Rendered gives the texts in which material appears on the wire, for redaction.
func Rendered(rules []*api.Rule, m api.Material) [][]byte { return nil }
