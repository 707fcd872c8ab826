package identity

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// What ends by the control plane's clock ends so here, however wrong this machine's is,
// and whether it was suspended or its clock was set meanwhile.
func TestNowIsTheControlPlanes(t *testing.T) {
	for _, ahead := range []time.Duration{0, 5 * time.Second, 6 * time.Hour, -6 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			var c clock
			if got := c.now(); !got.Equal(time.Now()) {
				t.Errorf("before anything is heard it is %v", got)
			}
			there := func() time.Time { return time.Now().Add(ahead) }
			c.hear(http.Header{"Date": {there().UTC().Format(http.TimeFormat)}})
			c.hear(http.Header{"Date": {"yesterday"}})
			time.Sleep(time.Hour)
			if d := c.now().Sub(there()); d.Abs() > sameTime {
				t.Errorf("%v ahead, it is off by %v", ahead, d)
			}
			heard := *c.heard.Load()
			heard.here = heard.here.Round(0).Add(-24 * time.Hour) // as it looks by the wall clock after a day
			c.heard.Store(&heard)
			if d := c.now().Sub(there()); d < 24*time.Hour-sameTime {
				t.Errorf("%v ahead, a suspension of a day is %v", ahead, d)
			}
		})
	}
}
