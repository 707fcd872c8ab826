package control

// Outcome is what a service made of a credential that was tried.
type Outcome string

const (
	OutcomeAccepted    Outcome = "accepted"    // 2xx
	OutcomeRefused     Outcome = "refused"     // 401, 403 or 407, or an end of the connection at the client certificate
	OutcomeRedirected  Outcome = "redirected"  // 3xx, which is not followed
	OutcomeUnclear     Outcome = "unclear"     // another answer, which says nothing of the credential
	OutcomeUnreachable Outcome = "unreachable" // none
	OutcomeNoMaterial  Outcome = "no_material" // what is injected could not be had, so nothing was sent
)

// Trial is what came of a request that the control plane made with a credential.
// It holds nothing of the answer but its status.
type Trial struct {
	Outcome      Outcome `json:"outcome"`
	Reason       string  `json:"reason"`
	Version      int64   `json:"version"`
	Method       string  `json:"method"`
	Host         string  `json:"host"`
	Port         uint16  `json:"port"`
	Path         string  `json:"path"`
	Status       int     `json:"status,omitempty"`
	Milliseconds int64   `json:"milliseconds"` // of the request, the connection's handshake included
}
