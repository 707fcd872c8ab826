package admin

import (
	"context"
	"fmt"
	"strings"
	"time"

	"sallyport/control"
	"sallyport/control/store"
)

// atPresent adds to an explanation how the credential is at this moment: what is used
// up, who waits, what is due, and what can't be had.
func (s *Server) atPresent(ctx context.Context, agent string, e control.Explanation) (control.Explanation, error) {
	vault, name, found := strings.Cut(e.Credential, "/")
	if !found {
		return e, nil
	}
	team := teamOf(ctx).ID
	c, err := s.Store.Credential(ctx, team, vault, name)
	if err != nil {
		return e, err
	}
	if c.RotateDue != nil && !time.Now().Before(*c.RotateDue) {
		e.Notes = append(e.Notes, fmt.Sprintf("it is due to be rotated since %s", instant(*c.RotateDue)))
	}
	if e.Decision != "inject" {
		return e, nil
	}
	present, err := s.Store.Present(ctx, team, agent, c)
	if err != nil {
		return e, err
	}
	if c.Limits.Budget.Requests > 0 && present.Budget.Requests == 0 {
		e.Decision, e.Code, e.Overlap = "refuse", "limit_budget", nil
		e.Reason = fmt.Sprintf("the credential's budget of %s is used up%s", c.Limits.Budget, until(present.Budget.RetryAfter))
		return e, nil
	}
	e.Notes = append(e.Notes, notes(c, present)...)
	if c.From != nil {
		e.Notes = append(e.Notes, s.elsewhere(c))
	}
	return e, nil
}

// notes are what is to be known of a credential that would be injected.
func notes(c control.Credential, p store.Present) (notes []string) {
	say := func(holds bool, format string, args ...any) {
		if holds {
			notes = append(notes, fmt.Sprintf(format, args...))
		}
	}
	say(c.Limits.Budget.Requests > 0, "of the budget of %s %d are left", c.Limits.Budget, c.Limits.Budget.Requests-p.Spent)
	say(c.Limits.Rate > 0 && p.Rate.Requests == 0, "the rate of %s is used up at this moment (429 limit_rate); there is room again in %s", c.Limits.Rate, p.Rate.RetryAfter.Round(time.Millisecond))
	say(p.Waiting == 1, "a request of the agent with it waits for a person: sallyport approval list")
	say(p.Waiting > 1, "%d requests of the agent with it wait for a person: sallyport approval list", p.Waiting)
	say(p.Captured > 0, "the agent's sandboxes hold %d secrets that were captured with it: a request that has the placeholder of one is sent with that instead", p.Captured)
	say(p.NoRoom != nil, "a sandbox that holds no lease of it gets none: %v", p.NoRoom)
	return notes
}

// elsewhere says of a credential whose secret lies in a source whether that could be read.
func (s *Server) elsewhere(c control.Credential) string {
	if err := s.Secrets.Trouble(c); err != nil {
		return fmt.Sprintf("its secret could not be read just now, so a sandbox that holds no lease is refused (502 exchange_failed): %v", err)
	}
	return fmt.Sprintf("its secret lies in %s, which is not read for this: sallyport credential test --vault %s %s does", c.From, c.Vault, c.Name)
}

// until says when what lasts that long is over; 0: it does not end by itself.
func until(lasts time.Duration) string {
	if lasts == 0 {
		return " for good: an admin raises it with sallyport credential set --budget"
	}
	return " until " + instant(time.Now().Add(lasts).Round(time.Second))
}

func instant(t time.Time) string { return t.UTC().Format(time.RFC3339) }
