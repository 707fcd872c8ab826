package proxy

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"runtime/metrics"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// mostRequests bounds the requests of a sandbox that are under way at once.
	mostRequests = 4096
	// shortOfMemory is how many bytes of heap there may be before something has to
	// give: long heads are not taken then, and clients that take nothing of their
	// responses lose them, as they do where no more requests may begin.
	shortOfMemory = 256 << 20
	// shortHead is what a head may have even then.
	shortHead = 8 << 10
	// watchMemory is how often it is looked how much there is, and mostStall how
	// long a client may take nothing then. A response that stalls holds what its
	// upstream has sent, up to a window of HTTP/2.
	watchMemory = 250 * time.Millisecond
	mostStall   = 2 * time.Second
)

// load is what a sandbox has its sidecar do at once.
type load struct {
	bytes atomic.Uint64 // of heap from which memory is short
	short atomic.Bool   // of memory

	mu   sync.Mutex
	most int // requests under way
	open map[client]struct{}
}

// begin sets the bounds.
func (l *load) begin() {
	l.most, l.open = mostRequests, make(map[client]struct{})
	l.bytes.Store(shortOfMemory)
}

// enter is for a request that begins. Its client leaves when it is over.
func (l *load) enter(c client, r *http.Request) *Error {
	busy := l.short.Load() && headSize(r) > shortHead
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[c] = struct{}{}
	if len(l.open) > l.most || busy {
		return &Error{Status: http.StatusServiceUnavailable, Code: "too_many_requests", RetryAfter: time.Second,
			Message: "this sandbox has as many requests under way, or as much memory in use by them, as may be at once; try again when some have ended"}
	}
	return nil
}

// full reports whether no more requests may begin.
func (l *load) full() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.open) >= l.most
}

func (l *load) leave(c client) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, c)
}

// headSize is how long a request's head is, as RFC 9113 section 6.5.2 counts.
func headSize(r *http.Request) int {
	size := len(r.Method) + len(r.RequestURI) + len(r.Host)
	for name, values := range r.Header {
		for _, value := range values {
			size += len(name) + len(value) + fieldOverhead
		}
	}
	return size
}

// watch sees to it that memory lasts, until ctx ends.
func (l *load) watch(ctx context.Context) {
	tick := time.NewTicker(watchMemory)
	defer tick.Stop()
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			metrics.Read(heap)
			short := heap[0].Value.Uint64() > l.bytes.Load()
			if l.short.Store(short); short || l.full() {
				l.shed(now)
			}
		}
	}
}

// shed cuts off an eighth of the responses under way, or fewer, of which the clients
// have taken nothing for a while: those that have for the longest.
func (l *load) shed(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock() // who has left can't be cut off any more
	stalled := make(map[client]int64)
	for c := range l.open {
		if since := c.stalled(); since != 0 && now.UnixNano()-since >= int64(mostStall) {
			stalled[c] = since
		}
	}
	longest := slices.SortedFunc(maps.Keys(stalled), func(a, b client) int { return cmp.Compare(stalled[a], stalled[b]) })
	for _, c := range longest[:min(len(longest), len(l.open)/8+1)] {
		c.abort()
	}
}

// stall is since when a client has been written to in vain.
type stall struct{ since atomic.Int64 }

func (s *stall) begin() { s.since.Store(time.Now().UnixNano()) }
func (s *stall) end()   { s.since.Store(0) }

// stalled is that in nanoseconds since the epoch; 0 while it takes what is written.
func (s *stall) stalled() int64 { return s.since.Load() }
