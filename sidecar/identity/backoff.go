package identity

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff waits longer after each failure, with full jitter, so that sidecars
// which lost their control plane together don't come back together.
type backoff struct {
	least, most time.Duration
	next        time.Duration
}

// wait is false when ctx ended first.
func (b *backoff) wait(ctx context.Context) bool {
	b.next = min(max(b.next*2, b.least), b.most)
	timer := time.NewTimer(b.least/2 + rand.N(b.next))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
