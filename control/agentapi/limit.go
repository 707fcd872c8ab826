package agentapi

import (
	"fmt"
	"sync"

	"connectrpc.com/connect"
	"golang.org/x/time/rate"
)

const (
	// A sidecar fetches once for each credential and version, and again when a
	// lease ages. More is a loop, or somebody who drains what he got hold of.
	fetchRate  rate.Limit = 10 // a second
	fetchBurst int        = 100
	// sweepAt is how many sandboxes may have a limiter before idle ones go.
	sweepAt int = 10_000
)

// limits holds a rate limit for each sandbox.
type limits struct {
	mu        sync.Mutex
	bySandbox map[string]*rate.Limiter
}

func newLimits() *limits { return &limits{bySandbox: make(map[string]*rate.Limiter)} }

// allow reports why the sandbox may not fetch now, if it may not.
func (l *limits) allow(sandbox string) error {
	l.mu.Lock()
	limiter := l.bySandbox[sandbox]
	if limiter == nil {
		if len(l.bySandbox) >= sweepAt {
			l.sweep()
		}
		limiter = rate.NewLimiter(fetchRate, fetchBurst)
		l.bySandbox[sandbox] = limiter
	}
	l.mu.Unlock()
	if !limiter.Allow() {
		return connect.NewError(connect.CodeResourceExhausted, fmt.Errorf("this sandbox fetches too fast; at most %v a second", fetchRate))
	}
	return nil
}

// sweep forgets limiters that are full again: a new one would be the same.
func (l *limits) sweep() {
	for sandbox, limiter := range l.bySandbox {
		if limiter.Tokens() >= float64(fetchBurst) {
			delete(l.bySandbox, sandbox)
		}
	}
}
