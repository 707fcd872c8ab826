package identity

import (
	"net/http"
	"sync/atomic"
	"time"
)

// sameTime is how far clocks may be apart that are taken to be the same: Date has whole
// seconds, and does not say how long the answer took.
const sameTime = 10 * time.Second

// clock knows the time by the control plane's clock, from its answers. The zero clock has
// heard none, and takes this machine's to be the same.
type clock struct{ heard atomic.Pointer[reading] }

// reading is one time by both clocks.
type reading struct{ there, here time.Time }

// hear takes the time of an answer that has just come.
func (c *clock) hear(header http.Header) {
	if there, err := http.ParseTime(header.Get("Date")); err == nil {
		c.heard.Store(&reading{there, time.Now()})
	}
}

// now counts from the last answer, by the monotonic clock or the wall clock, whichever says
// that more time has passed: one stands still in a suspended machine, the other can be set.
func (c *clock) now() time.Time {
	now, heard := time.Now(), c.heard.Load()
	if heard == nil {
		return now
	}
	passed := max(now.Sub(heard.here), now.Round(0).Sub(heard.here.Round(0)))
	if there := heard.there.Add(passed); there.Sub(now).Abs() >= sameTime {
		return there
	}
	return now
}

// Now is the time by the control plane's clock, as far as it is known: that of this machine
// may be wrong, and what an admin said ends when it does there.
func (i *Identity) Now() time.Time { return i.clock.now() }
