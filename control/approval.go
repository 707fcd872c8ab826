package control

import "time"

// ApprovalState is what became of a question.
type ApprovalState string

const (
	ApprovalPending   ApprovalState = "pending"
	ApprovalApproved  ApprovalState = "approved"
	ApprovalDenied    ApprovalState = "denied"
	ApprovalWithdrawn ApprovalState = "withdrawn" // nobody waits for it any more
	ApprovalExpired   ApprovalState = "expired"   // nobody decided in time, or the approval has ended
)

// Approval is a request that waits for a person, or waited. All of it but the
// ids is the agent's to choose, and stays as it was shown.
type Approval struct {
	ID         string        `json:"id"`
	State      ApprovalState `json:"state"`
	Scope      Approve       `json:"scope"` // first: the sandbox's use of this version; each: this request alone
	Credential string        `json:"credential"`
	Version    int64         `json:"version"`
	Agent      string        `json:"agent"`
	Sandbox    string        `json:"sandbox"`
	Host       string        `json:"host"`
	Port       int           `json:"port"`
	Method     string        `json:"method"`
	Path       string        `json:"path"` // without its query
	CreatedAt  time.Time     `json:"created_at"`
	ExpiresAt  time.Time     `json:"expires_at"` // of the question, then of the approval
	DecidedAt  *time.Time    `json:"decided_at,omitempty"`
	DecidedBy  string        `json:"decided_by,omitempty"`
}

// Tag names what a person who decides was shown; it changes with the state.
func (a Approval) Tag() string { return `"` + a.ID + "." + string(a.State) + `"` }
