package control

import "time"

// Steps of the succession of the control CA.
const (
	CAStage    = "stage"    // a new root is made, and handed out beside the old one
	CAActivate = "activate" // certificates are issued by the new one; the old one is trusted, too
	CARetire   = "retire"   // the old one is forgotten
)

// CAStatus is how far the succession of the control CA is.
type CAStatus struct {
	Active   CARoot     `json:"active"`
	Next     *CARoot    `json:"next,omitempty"`     // staged
	Previous *CARoot    `json:"previous,omitempty"` // not retired
	Since    *time.Time `json:"since,omitempty"`    // of the last step, unless it was to retire
	Step     string     `json:"step"`               // that comes next
	DueAt    *time.Time `json:"due_at,omitempty"`   // before then it would cut sidecars off
}

// CARoot is a root certificate of the control plane.
type CARoot struct {
	Fingerprint string    `json:"fingerprint"` // SHA-256, hexadecimal
	ExpiresAt   time.Time `json:"expires_at"`
}
