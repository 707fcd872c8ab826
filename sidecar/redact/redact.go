// Package redact hides material in what an upstream answers.
package redact

import (
	"net/http"

	"sallyport/control/api"
)

// Patterns is what to look for, compiled: made once a lease, shared by its requests.
type Patterns struct{}

// Compile makes the Patterns of material and of its texts on the wire.
func Compile(m api.Material, rendered [][]byte) *Patterns { return &Patterns{} }

// Redactor gives a new Redactor, for one request.
func (p *Patterns) Redactor() *Redactor { return &Redactor{} }

// Wipe overwrites the patterns. No Redactor of theirs may be in use.
func (p *Patterns) Wipe() {}

// Check reports why responses to requests that bear m could not be redacted
// (ErrShortToken), if they could not. Ask before sending.
func Check(m api.Material) error { return nil }

// Redactor hides material in the response to one request.
type Redactor struct{}

// New is Compile(m, rendered).Redactor().
func New(m api.Material, rendered [][]byte) *Redactor { return Compile(m, rendered).Redactor() }

// Request prepares an outgoing request so that its response can be redacted.
func Request(r *http.Request) {}

// Header masks material in h and says how often.
func (r *Redactor) Header(h http.Header) int { return 0 }

// Response masks material in the head, body and trailers of a response.
func (r *Redactor) Response(resp *http.Response) error { return nil }

// Count is how many occurrences were masked so far.
func (r *Redactor) Count() int { return 0 }

// Wipe is Wipe of its patterns.
func (r *Redactor) Wipe() {}
