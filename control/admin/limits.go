package admin

import (
	"context"
	"slices"
	"time"

	"sallyport/control"
	"sallyport/control/api"
)

// limitChanges are limits to be set. What is left out stays as it is, which for a
// new credential is none.
type limitChanges struct {
	Methods        *[]string        `json:"methods,omitempty" doc:"That it is for, in capitals; [] for any"`
	Paths          *[]string        `json:"paths,omitempty" doc:"Prefixes, which end at a segment, of the paths that it is for; [] for any"`
	ExpiresAt      *string          `json:"expires_at,omitempty" doc:"From when on it is not used, as RFC 3339 has it; empty for never"`
	Rate           *control.Rate    `json:"rate,omitempty" doc:"Requests, by all sandboxes together: N/min; empty for any number"`
	Budget         *control.Budget  `json:"budget,omitempty" doc:"Requests, by all sandboxes together: N, N/day or N/month (of UTC); empty for any number"`
	Approve        *control.Approve `json:"approve,omitempty" enum:"first,each," doc:"Which requests wait for a person: the first of a sandbox with a version of the credential, or each; empty for none"`
	ApproveTimeout *control.Seconds `json:"approve_timeout,omitempty" doc:"How long they wait, as in 5m; empty for that"`
}

func (c *limitChanges) empty() bool { return *c == limitChanges{} }

// apply makes the changes and checks the outcome.
func (c *limitChanges) apply(l control.Limits) (control.Limits, error) {
	if c.Methods != nil {
		l.Methods = distinct(*c.Methods)
	}
	if c.Paths != nil {
		l.Paths = distinct(*c.Paths)
	}
	if c.ExpiresAt != nil {
		var err error
		if l.ExpiresAt, err = parseExpiry(*c.ExpiresAt); err != nil {
			return l, err
		}
	}
	if c.Rate != nil {
		l.Rate = *c.Rate
	}
	if c.Budget != nil {
		l.Budget = *c.Budget
	}
	if c.Approve != nil {
		l.Approve = *c.Approve
	}
	if c.ApproveTimeout != nil {
		l.ApproveTimeout = *c.ApproveTimeout
	}
	return checkLimits(l)
}

func parseExpiry(text string) (*time.Time, error) {
	if text == "" {
		return nil, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return nil, control.Errorf(control.CodeInvalid, "expires_at is no time as RFC 3339 has it, as in 2027-01-31T12:00:00Z")
	}
	if !at.After(time.Now()) {
		return nil, control.Errorf(control.CodeInvalid, "expires_at is over already; to end the use of a credential, remove it or unpin its vault")
	}
	at = at.UTC().Truncate(time.Microsecond) // as it is stored
	return &at, nil
}

func checkLimits(l control.Limits) (control.Limits, error) {
	if err := api.CheckLimits(&api.Limits{Methods: l.Methods, Paths: l.Paths}); err != nil {
		return l, control.Errorf(control.CodeInvalid, "limits: %v", err)
	}
	switch l.Approve {
	case control.ApproveNone:
		if l.ApproveTimeout != 0 {
			return l, control.Errorf(control.CodeInvalid, "limits: approve_timeout goes with approve")
		}
		return l, nil
	case control.ApproveFirst, control.ApproveEach:
	default:
		return l, control.Errorf(control.CodeInvalid, "limits: approve is first or each, or empty")
	}
	if l.ApproveTimeout == 0 {
		l.ApproveTimeout = control.DefaultApproveTimeout
	}
	if d := time.Duration(l.ApproveTimeout); d < time.Second || d > api.MaxApprovalTimeout {
		return l, control.Errorf(control.CodeInvalid, "limits: approve_timeout is from 1s to %s", api.MaxApprovalTimeout)
	}
	return l, nil
}

// distinct gives each text once, in the order of the first.
func distinct(texts []string) []string {
	var once []string
	for _, text := range texts {
		if !slices.Contains(once, text) {
			once = append(once, text)
		}
	}
	return once
}

func (s *Server) setLimits(ctx context.Context, in *credentialPatch, change *limitChanges) (*tagged[control.Credential], error) {
	unchanged := func(c control.Credential) error { return in.check(credentialTag(c)) }
	what := act(ctx, "credential.update", in.Vault+"/"+in.Credential)
	c, err := s.Store.SetLimits(ctx, teamOf(ctx).ID, in.Vault, in.Credential, unchanged, change.apply, what)
	return versioned(c, credentialTag(c), err)
}

// credentialWithUsage is a credential, with what was spent of its budget, which
// changes without anybody's doing and so is no part of the tag.
func (s *Server) credentialWithUsage(ctx context.Context, in *CredentialPath) (*tagged[control.Credential], error) {
	c, err := s.Store.Credential(ctx, teamOf(ctx).ID, in.Vault, in.Credential)
	if err != nil {
		return nil, err
	}
	tag := credentialTag(c)
	c.Spent, err = s.Store.Usage(ctx, teamOf(ctx).ID, c)
	return versioned(c, tag, err)
}
