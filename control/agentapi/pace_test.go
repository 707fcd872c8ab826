package agentapi

import (
	"testing"
	"testing/synctest"
	"time"
)

// Each call is limited to its pace, and goes on when a call's time has passed.
func TestPaces(t *testing.T) {
	for procedure, p := range paces {
		synctest.Test(t, func(t *testing.T) {
			l := newLimits()
			call := func() bool {
				done, err := l.allow("s", procedure)
				if err == nil {
					done()
				}
				return err == nil
			}
			for n := range p.burst {
				if !call() {
					t.Fatalf("%s: call %d of %d is refused", procedure, n+1, p.burst)
				}
			}
			if call() {
				t.Errorf("%s: more than %d calls at once", procedure, p.burst)
			}
			time.Sleep(time.Duration(float64(time.Second)/float64(p.rate)) + time.Microsecond)
			if !call() || call() {
				t.Errorf("%s: not one call after its time", procedure)
			}
			if _, err := l.allow("other", procedure); err != nil {
				t.Errorf("%s of another sandbox: %v", procedure, err)
			}
		})
	}
}
