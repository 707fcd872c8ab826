package identity

import (
	"net/http"
	"sync/atomic"
	"time"
)

// sameTime is how far clocks may be apart that are taken to be the same: Date has whole
// seconds, and does not say how long the answer took.
const sameTime = 10 * time.Second

// longestAnswer is how long an answer may take that tells the time: by one that was on its
// way while this machine was suspended, what has ended meanwhile would go on.
const longestAnswer = time.Minute

// clock knows the time by the control plane's clock, from its answers. The zero clock has
// heard none, and takes this machine's to be the same.
type clock struct{ heard atomic.Pointer[reading] }

// reading is one time by both clocks.
type reading struct{ there, here time.Time }

// hear takes the time of an answer that has just come, to what was asked at a time.
func (c *clock) hear(asked time.Time, header http.Header) {
	now := time.Now()
	if there, err := http.ParseTime(header.Get("Date")); err == nil && passed(asked, now) <= longestAnswer {
		c.heard.Store(&reading{there, now})
	}
}

// passed is the time between two by the monotonic clock or the wall clock, whichever says
// that it is more: one stands still in a suspended machine, the other can be set.
func passed(from, to time.Time) time.Duration {
	return max(to.Sub(from), to.Round(0).Sub(from.Round(0)))
}

// now counts from the last answer.
func (c *clock) now() time.Time {
	now, heard := time.Now(), c.heard.Load()
	if heard == nil {
		return now
	}
	if there := heard.there.Add(passed(heard.here, now)); there.Sub(now).Abs() >= sameTime {
		return there
	}
	return now
}

// Now is the time by the control plane's clock, as far as it is known: that of this machine
// may be wrong, and what an admin said ends when it does there.
func (i *Identity) Now() time.Time { return i.clock.now() }
