package gate

import (
	"cmp"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// mostPlaces bounds the connections of a sandbox, by the memory that they take:
	// 22 KiB each while they are idle.
	mostPlaces = 16 << 10
	// otherFiles are the descriptors left to all else: five more for each flow that
	// is passed through, one for each request's upstream, the control plane.
	otherFiles = 10_000
	// leastIdle is how long a connection is idle before it is closed for another,
	// and sweepPause how often such ones are looked for.
	leastIdle  = time.Second
	sweepPause = 50 * time.Millisecond
)

// place is what one connection of the sandbox takes.
type place struct {
	conn net.Conn
	idle atomic.Int64 // since when it waits for the client, since the epoch in nanoseconds; 0 if it does not
}

// rest notes whether the connection waits for the client.
func (p *place) rest(idle bool) {
	if p == nil {
		return
	}
	if idle {
		p.idle.Store(time.Now().UnixNano())
	} else {
		p.idle.Store(0)
	}
}

// places are those of all connections accepted.
type places struct {
	most int

	mu    sync.Mutex
	taken map[*place]struct{}
	swept time.Time
}

// newPlaces has as many as there are descriptors for.
func newPlaces() places {
	most := mostPlaces
	var files syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files) == nil && files.Cur < mostPlaces+otherFiles {
		most = max(int(files.Cur)-otherFiles, int(files.Cur)/2)
	}
	return places{most: most, taken: make(map[*place]struct{})}
}

// take gives a place, or nil where all are taken by connections that have something
// under way. One that waits for its client, with a hello, a head or the next
// request, has to go for another.
func (ps *places) take(c net.Conn) *place {
	p := &place{conn: c}
	p.rest(true)
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if len(ps.taken) >= ps.most && time.Since(ps.swept) >= sweepPause {
		ps.sweep()
	}
	if len(ps.taken) >= ps.most {
		return nil
	}
	ps.taken[p] = struct{}{}
	return p
}

// sweep closes those that have been idle for the longest, a few at once.
func (ps *places) sweep() {
	ps.swept = time.Now()
	limit := ps.swept.Add(-leastIdle).UnixNano()
	since := make(map[*place]int64)
	var idle []*place
	for p := range ps.taken {
		if t := p.idle.Load(); t != 0 && t <= limit {
			since[p] = t
			idle = append(idle, p)
		}
	}
	slices.SortFunc(idle, func(a, b *place) int { return cmp.Compare(since[a], since[b]) })
	for _, p := range idle[:min(len(idle), ps.most/16+1)] {
		delete(ps.taken, p)
		reset(p.conn) // whoever holds it sees an error
	}
}

// leave gives a place back, which may have been taken away.
func (ps *places) leave(p *place) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	delete(ps.taken, p)
}
