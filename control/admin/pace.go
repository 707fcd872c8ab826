package admin

import (
	"math"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Pace is how often something may happen: Rate a second, Burst at once.
type Pace struct {
	Rate  rate.Limit
	Burst int
}

// The paces where Config has none.
var (
	// usualPace is of the calls with one token or session. A program that makes a
	// thousand sandboxes at once is within it; a loop is not, for long.
	usualPace = Pace{100, 2000}
	// strangerPace is of what one address may try without a token that is good.
	strangerPace = Pace{1, 60}
)

const (
	// maxPaced bounds how many are told apart: a limiter takes about 150 bytes.
	maxPaced = 20_000
	// sweepPause keeps a crowd from having it swept for each of them.
	sweepPause = time.Second
)

// paced holds a limiter for each of many.
type paced struct {
	pace Pace
	mu   sync.Mutex
	by   map[string]*rate.Limiter
	rest *rate.Limiter // shared by those there is no room for
	tidy time.Time     // when it was swept
}

func newPaced(p Pace) *paced {
	return &paced{pace: p, by: make(map[string]*rate.Limiter), rest: rate.NewLimiter(p.Rate, p.Burst)}
}

// of gives who's limiter.
func (p *paced) of(who string) *rate.Limiter {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l := p.by[who]; l != nil {
		return l
	}
	if len(p.by) >= maxPaced && time.Since(p.tidy) > sweepPause {
		p.sweep()
	}
	if len(p.by) >= maxPaced {
		return p.rest
	}
	l := rate.NewLimiter(p.pace.Rate, p.pace.Burst)
	p.by[who] = l
	return l
}

// knows reports whether who was let through not long ago.
func (p *paced) knows(who string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.by[who] != nil
}

// sweep forgets those that are full again: a new one would be the same.
func (p *paced) sweep() {
	p.tidy = time.Now()
	for who, l := range p.by {
		if l.Tokens() >= float64(l.Burst()) {
			delete(p.by, who)
		}
	}
}

// tooMany is the refusal of what comes before its turn.
func tooMany(l *rate.Limiter, format string, args ...any) *problem {
	wait := 1.0
	if l.Limit() > 0 {
		wait = max(1, math.Ceil((1-l.Tokens())/float64(l.Limit())))
	}
	p := newProblem(http.StatusTooManyRequests, codeTooMany, format, args...)
	p.header = http.Header{"Retry-After": {strconv.Itoa(int(wait))}}
	return p
}

// addressOf is where a request comes from, as far as it is told apart: an IPv4
// address, or the 64 bits of IPv6 that one customer has at least.
func addressOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return ""
	}
	if addr = addr.Unmap().WithZone(""); addr.Is6() {
		prefix, _ := addr.Prefix(64) // never fails: 64 bits are there
		return prefix.String()
	}
	return addr.String()
}
