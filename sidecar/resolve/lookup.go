package resolve

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	lookupTimeout = 5 * time.Second
	mostAnswers   = 4096 // in the cache

	leastTTL, mostTTL       = time.Second, 5 * time.Minute
	absentTTL, mostAbsent   = 5 * time.Second, 30 * time.Second // for a name that is not there
	failureTTL              = time.Second
	hostsTTL                = time.Minute
	mostAliases, maxUDPSize = 8, 1232 // bytes; fits every path unfragmented (DNS flag day 2020)
)

// question is a name, as NormalizeHost gives it, and dns.TypeA or dns.TypeAAAA.
type question struct {
	name string
	kind uint16
}

// answer is what is known about a question until it expires. Without addresses
// and error the name exists, but has none of the kind.
type answer struct {
	addresses []netip.Addr
	err       error // ErrNoSuchHost: the name does not exist
	expires   time.Time
}

// lookupBoth gives the addresses of both families, of which there is at least one.
func (r *Resolver) lookupBoth(ctx context.Context, name string) ([]netip.Addr, error) {
	var four, six answer
	var wg sync.WaitGroup
	wg.Go(func() { four = r.lookup(ctx, question{name, dns.TypeA}) })
	wg.Go(func() { six = r.lookup(ctx, question{name, dns.TypeAAAA}) })
	wg.Wait()
	all := append(append([]netip.Addr{}, six.addresses...), four.addresses...)
	for _, err := range []error{four.err, six.err, ErrNoSuchHost} {
		if len(all) == 0 && err != nil {
			return nil, err
		}
	}
	return all, nil
}

// lookup answers from the hosts file, the cache or upstream. Those who ask the
// same at the same time share one query.
func (r *Resolver) lookup(ctx context.Context, q question) answer {
	if known, ok := r.known(q); ok {
		return known
	}
	return r.share(ctx, q, lookupTimeout)
}

// share asks upstream, for as long as most, for all who ask the same at the same
// time and have as long. That it took too long holds for those who ask by lookup
// only where they had asked.
func (r *Resolver) share(ctx context.Context, q question, most time.Duration) answer {
	// Not the caller's ctx: its end must not fail the others who wait. The
	// timeout bounds how long that can take.
	shared, _, _ := r.flights.Do(dns.TypeToString[q.kind]+" "+q.name+" "+most.String(), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), most)
		defer cancel()
		a := r.ask(ctx, q)
		if most == lookupTimeout || a.err == nil || errors.Is(a.err, ErrNoSuchHost) {
			r.cache.put(q, a)
		}
		return a, nil
	})
	return shared.(answer)
}

// known answers without asking anybody.
func (r *Resolver) known(q question) (answer, bool) {
	if all, found := r.hosts[q.name]; found {
		a := answer{expires: time.Now().Add(hostsTTL)}
		for _, address := range all {
			if address.Is4() == (q.kind == dns.TypeA) {
				a.addresses = append(a.addresses, address)
			}
		}
		return a, true
	}
	return r.cache.get(q)
}

// ask asks upstream, and goes on where an answer ends in an alias.
func (r *Resolver) ask(ctx context.Context, q question) answer {
	name, least := dns.Fqdn(q.name), mostTTL
	for range mostAliases {
		m, err := r.exchange(ctx, name, q.kind)
		if err != nil {
			return answer{err: err, expires: time.Now().Add(failureTTL)}
		}
		alias, addresses, ttl := collapse(m, name, q.kind)
		least = min(least, ttl)
		switch {
		case len(addresses) > 0:
			return answer{addresses: addresses, expires: time.Now().Add(max(least, leastTTL))}
		case m.Rcode == dns.RcodeNameError:
			return answer{err: ErrNoSuchHost, expires: time.Now().Add(min(least, absence(m)))}
		case alias == name:
			return answer{expires: time.Now().Add(min(least, absence(m)))}
		}
		name = alias
	}
	return answer{err: errors.New("too many aliases"), expires: time.Now().Add(failureTTL)}
}

// collapse follows the aliases of name within m. It gives the last one, its
// addresses and the shortest time to live on the way. Records that the aliases
// don't lead to are not looked at.
func collapse(m *dns.Msg, name string, kind uint16) (last string, addresses []netip.Addr, ttl time.Duration) {
	ttl = mostTTL
	last = name
	for range mostAliases {
		next := ""
		for _, record := range m.Answer {
			h := record.Header()
			if h.Class != dns.ClassINET || !strings.EqualFold(h.Name, last) {
				continue
			}
			lives := time.Duration(h.Ttl) * time.Second
			switch v := record.(type) {
			case *dns.CNAME:
				next, ttl = v.Target, min(ttl, lives)
			case *dns.A:
				if a, ok := netip.AddrFromSlice(v.A.To4()); ok && kind == dns.TypeA {
					addresses, ttl = append(addresses, a), min(ttl, lives)
				}
			case *dns.AAAA:
				if a, ok := netip.AddrFromSlice(v.AAAA.To16()); ok && kind == dns.TypeAAAA {
					addresses, ttl = append(addresses, a), min(ttl, lives)
				}
			}
		}
		if len(addresses) > 0 || next == "" {
			break
		}
		last = next
	}
	return last, addresses, ttl
}

// absence is how long m's no may be kept (RFC 2308 section 5).
func absence(m *dns.Msg) time.Duration {
	for _, record := range m.Ns {
		if soa, ok := record.(*dns.SOA); ok {
			return max(leastTTL, min(mostAbsent, time.Duration(min(soa.Minttl, soa.Hdr.Ttl))*time.Second))
		}
	}
	return absentTTL
}

// cache is a bounded memory of answers.
type cache struct {
	mu      sync.Mutex
	answers map[question]answer
}

func (c *cache) get(q question) (answer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, found := c.answers[q]
	return a, found && time.Now().Before(a.expires)
}

func (c *cache) put(q question, a answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.answers) >= mostAnswers {
		c.shrink(time.Now())
	}
	c.answers[q] = a
}

// shrink drops what has expired, and if that is not enough an eighth of the rest.
func (c *cache) shrink(now time.Time) {
	for q, a := range c.answers {
		if !now.Before(a.expires) {
			delete(c.answers, q)
		}
	}
	for q := range c.answers {
		if len(c.answers) <= mostAnswers*7/8 {
			return
		}
		delete(c.answers, q)
	}
}
