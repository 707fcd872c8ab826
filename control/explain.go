package control

// Target is a request that somebody asks about.
type Target struct {
	Host   string // as it is normalised
	Port   uint16
	TLS    bool
	Method string
	Path   string // escaped
}

// Explanation is what would become of a request, and why.
type Explanation struct {
	Decision   string   `json:"decision"`       // inject, inspect, passthrough or refuse
	Code       string   `json:"code,omitempty"` // of a refusal, as the client would be told
	Reason     string   `json:"reason"`
	Credential string   `json:"credential,omitempty"` // VAULT/NAME that serves the host
	Version    int64    `json:"version,omitempty"`
	Inject     []string `json:"inject,omitempty"` // the rules by which it would be injected
	Limits     string   `json:"limits,omitempty"`
	Overlap    *Overlap `json:"overlap,omitempty"` // what it is sent with once more where the service answers 401, if it has no body and opens no WebSocket; nil: nothing
	Notes      []string `json:"notes,omitempty"`   // what else holds for it
}
