package main

import (
	"net/http/httptest"
	"strings"
	"testing"

	"sallyport/control"
)

// What is overdue is counted by team, and what is no more leaves nothing.
func TestOverdueIsCounted(t *testing.T) {
	m := newMetrics("test")
	shown := func() string {
		w := httptest.NewRecorder()
		m.handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		return w.Body.String()
	}
	m.due([]control.Overdue{{Team: "acme", Count: 2}, {Team: "other", Count: 1}})
	if got := shown(); !strings.Contains(got, `sallyport_control_credentials_overdue{team="acme"} 2`) || !strings.Contains(got, `{team="other"} 1`) {
		t.Error("it is not counted")
	}
	m.due([]control.Overdue{{Team: "other", Count: 1}})
	if got := shown(); strings.Contains(got, "acme") || !strings.Contains(got, `{team="other"} 1`) {
		t.Error("what was rotated is counted yet")
	}
}
