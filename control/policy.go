package control

// Action is what happens to what an agent asks for.
type Action string

const (
	ActionInspect     Action = "inspect"     // end TLS, scan for placeholders, forward
	ActionPassthrough Action = "passthrough" // hand the connection's bytes on untouched
	ActionDeny        Action = "deny"
)

// Policy is what an agent may reach beside its credentials' hosts. The first
// rule that fits decides, Default where none does.
type Policy struct {
	Default Action       `json:"default"`
	Rules   []PolicyRule `json:"rules"`
}

// PolicyRule fits when each of its lists does; an empty one fits anything.
// Package policy reads and checks them.
type PolicyRule struct {
	Action  Action   `json:"action"`
	Hosts   []string `json:"hosts,omitempty"`   // api.PolicyHost
	Ports   []uint32 `json:"ports,omitempty"`   // empty: 443 and 80
	Methods []string `json:"methods,omitempty"` // not with passthrough
	Paths   []string `json:"paths,omitempty"`   // prefixes that end at a segment; not with passthrough
}

// DefaultPolicy is that of an agent that was given none.
func DefaultPolicy() Policy { return Policy{Default: ActionInspect, Rules: []PolicyRule{}} }
