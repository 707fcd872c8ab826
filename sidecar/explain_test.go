package sidecar

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"sallyport/sidecar/audit"
)

// Whoever is refused since nothing can be recorded is told what does not happen, and why,
// whatever the control plane says of it.
func TestWhatIsNotRecordedIsExplained(t *testing.T) {
	const quota, pace = "the team has 9 audit events today and may have 9", "this sandbox calls too often"
	for _, said := range []string{quota, pace} {
		exhausted := &audit.ExhaustedError{Said: said}
		for _, c := range []struct{ message, so string }{
			{auditFull("nothing is passed through", exhausted).Message, "nothing is passed through"},
			{later("audit_unacknowledged", fmt.Errorf("%w: %w", audit.ErrUnacknowledged, exhausted)).Message, "no credential is used"},
		} {
			if c.message != c.so+": "+said {
				t.Errorf("%q: it should say %q, and %q", c.message, c.so, said)
			}
		}
	}
	away := auditFull("nothing is passed through", nil)
	if !strings.Contains(away.Message, "so nothing is passed through; try again when it is back") || away.RetryAfter == 0 {
		t.Errorf("the control plane is away: %q, again in %v", away.Message, away.RetryAfter)
	}
	if failed := later("audit_log_failed", errors.New("disk full")); failed.Message != "no credential is used: disk full; try again" || failed.RetryAfter == 0 {
		t.Errorf("%q, again in %v", failed.Message, failed.RetryAfter)
	}
}
