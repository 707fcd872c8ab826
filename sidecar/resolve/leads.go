package resolve

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	leadsTimeout = 2 * time.Second  // for a name; none is asked about later for one connection
	silentTTL    = 30 * time.Second // how long a name is not asked about again that got no answer
	mostLeads    = 64               // questions at once
)

// Led gives those of the names, as api.NormalizeHost spells them, that lead a
// client in the sandbox to the address a. One whose servers don't answer in time
// leads nowhere, for a while.
func (r *Resolver) Led(ctx context.Context, names []string, a netip.Addr) map[string]bool {
	ctx, cancel := context.WithTimeout(ctx, leadsTimeout)
	defer cancel()
	var (
		mu    sync.Mutex
		asked sync.WaitGroup
		led   = make(map[string]bool)
		slots = make(chan struct{}, mostLeads)
	)
	for _, name := range names {
		slots <- struct{}{}
		asked.Go(func() {
			defer func() { <-slots }()
			if r.leads(ctx, name, a) {
				mu.Lock()
				defer mu.Unlock()
				led[name] = true
			}
		})
	}
	asked.Wait()
	return led
}

// leads reports whether a client that asks for name is led to a.
func (r *Resolver) leads(ctx context.Context, name string, a netip.Addr) bool {
	q := question{name, dns.TypeA}
	if a.Is6() {
		q.kind = dns.TypeAAAA
	}
	if a == syntheticAddress(q) {
		return true
	}
	if r.redirected(name) || !r.mayAsk(name) {
		return false
	}
	if _, known := r.known(q); !known {
		if _, silent := r.silent.get(q); silent || ctx.Err() != nil {
			return false
		}
		if a := r.share(ctx, q, leadsTimeout); a.err != nil && !errors.Is(a.err, ErrNoSuchHost) {
			r.silent.put(q, answer{expires: time.Now().Add(silentTTL)})
			return false
		}
	}
	told, _ := r.answerFor(ctx, q, func() bool { return true })
	return slices.Contains(told.addresses, a)
}
