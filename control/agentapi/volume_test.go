package agentapi

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
)

// A busy sandbox that reports batch after batch is slowed, not refused.
func TestEventsArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, begin := newLimits(), time.Now()
		const batches, n = 200, 1000
		for range batches {
			if err := l.waitForEvents(t.Context(), "a", n, n*200); err != nil {
				t.Fatal(err)
			}
		}
		least := time.Duration(float64(batches*n-eventPace.burst) / float64(eventPace.rate) * float64(time.Second))
		if took := time.Since(begin); took < least-time.Second || took > least+time.Second {
			t.Errorf("%d events took %v, want about %v", batches*n, took, least)
		}
		if err := l.waitForEvents(t.Context(), "b", n, n*200); err != nil || time.Since(begin) > least+time.Second {
			t.Errorf("another sandbox waited: %v", err)
		}
	})
}

// What one sandbox can store is bounded in bytes, whatever the size of its events.
func TestVolumeIsBounded(t *testing.T) {
	const n, day = 1000, 24 * time.Hour
	for name, size := range map[string]int{"small": n, "largest": maxReport} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, begin, stored := newLimits(), time.Now(), 0
				for time.Since(begin) < day {
					if err := l.waitForEvents(t.Context(), "a", n, size); err != nil {
						t.Fatal(err)
					}
					stored += n*eventSize + size
				}
				most := volumePace.burst + int(volumePace.rate)*int(day/time.Second) + 10<<20
				if stored > most || stored < most*9/10 {
					t.Errorf("%d bytes were stored in a day, want %d", stored, most)
				}
			})
		})
	}
}

// Who waits for its turn stops waiting when the call ends, and is told so when it
// would be too long.
func TestWaitForEventsIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimits()
		l.of("a").volume.AllowN(time.Now(), volumePace.burst)
		begin := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if err := l.waitForEvents(ctx, "a", 1000, maxReport); !errors.Is(err, context.Canceled) || time.Since(begin) != time.Second {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
		l.of("a").volume.ReserveN(time.Now(), 10*int(volumePace.rate))
		if err := l.waitForEvents(t.Context(), "a", 1, 1); connect.CodeOf(err) != connect.CodeResourceExhausted || time.Since(begin) > eventPatience {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
	})
}
