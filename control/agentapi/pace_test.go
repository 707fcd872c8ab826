package agentapi

import (
	"testing"

	"sallyport/control/api"
)

// Reports of a strict team come one after another, faster than a test can call over
// the network, and are limited all the same.
func TestReportsAreLimited(t *testing.T) {
	l := newLimits()
	for range 1_000_000 {
		done, err := l.allow("sandbox", api.SidecarServiceReportProcedure)
		if err != nil {
			return
		}
		done()
	}
	t.Error("a million reports in a row are not limited")
}
