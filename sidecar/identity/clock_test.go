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
			c.hear(time.Now(), http.Header{"Date": {there().UTC().Format(http.TimeFormat)}})
			c.hear(time.Now(), http.Header{"Date": {"yesterday"}})
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

// An answer that came late tells no time: it is that of before.
func TestLateAnswersTellNoTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c clock
		date := http.Header{"Date": {time.Now().UTC().Format(http.TimeFormat)}}
		c.hear(time.Now(), date)
		asked := time.Now()
		time.Sleep(time.Hour)
		c.hear(asked, date)
		if d := time.Until(c.now()); d.Abs() > sameTime {
			t.Errorf("after a late answer it is off by %v", d)
		}
		c.hear(time.Now().Round(0).Add(-time.Hour), date) // as it looks to a machine that was suspended
		if d := time.Until(c.now()); d.Abs() > sameTime {
			t.Errorf("after an answer that came in a suspension it is off by %v", d)
		}
	})
}
