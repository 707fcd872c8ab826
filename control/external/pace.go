package external

import (
	"sync"

	"golang.org/x/time/rate"
)

const (
	// changesAtOnce of one credential make versions as they are found, and from then on
	// one a minute: a store that gives another secret at every reading would have every
	// sidecar of the team lease anew without end.
	changesAtOnce = 5
	changesEach   = rate.Limit(1.0 / 60)
	sweepAt       = 1024
)

// pace bounds how often credentials change by themselves.
type pace struct {
	mu           sync.Mutex
	byCredential map[string]*rate.Limiter
}

func newPace() *pace { return &pace{byCredential: map[string]*rate.Limiter{}} }

func (p *pace) allow(credential string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	limiter := p.byCredential[credential]
	if limiter == nil {
		for id, full := range p.byCredential {
			if len(p.byCredential) >= sweepAt && full.Tokens() >= changesAtOnce {
				delete(p.byCredential, id)
			}
		}
		limiter = rate.NewLimiter(changesEach, changesAtOnce)
		p.byCredential[credential] = limiter
	}
	return limiter.Allow()
}
