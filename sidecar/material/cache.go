// Package material holds what is injected: it leases material from the control
// plane, keeps it while it may be used, and wipes it afterwards. It also follows
// the bindings that say which material there is.
//
//	fetched ──── refresh ahead ──── fresh_until ──────────── hard_expiry
//	 │ served from memory │ and fetched  │ fetched first; served   │ wiped
//	 │                    │ meanwhile    │ only while the control  │
//	 │                    │              │ plane is away           │
package material

import (
	"context"
	"crypto/hpke"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"connectrpc.com/connect"

	"sallyport/control/api"
)

var (
	// ErrSuperseded is a version that is not, or no longer, the one the bindings
	// name. The request is to be matched again.
	ErrSuperseded = errors.New("the credential was rotated or unpinned meanwhile")
	// ErrRefused is the control plane refusing the material.
	ErrRefused = errors.New("the control plane refused the credential")
	// ErrUnbound is the ErrRefused of a version that the control plane does not know, or
	// no longer, for this sandbox. Where it was rotated or unpinned a moment ago, other
	// bindings are on their way.
	ErrUnbound = fmt.Errorf("%w: it is not bound at this version", ErrRefused)
	// ErrUnavailable is the control plane being away, or answering nonsense, with
	// no lease left that may be used.
	ErrUnavailable = errors.New("no valid lease of the credential, and none to be had from the control plane")
	// ErrExchange is the control plane having no material to give: another server did
	// not give it to the control plane.
	ErrExchange = errors.New("the control plane could not exchange the credential's secret")
	// ErrClosed is a Get after the end of Run.
	ErrClosed = errors.New("the sidecar is stopping")
)

const (
	fetchTimeout = 5 * time.Second
	// refusalMemory keeps a refused credential from being asked for at every request.
	refusalMemory = time.Second
	// longestSleep bounds a wait by the monotonic clock, which stands still while
	// a machine is suspended.
	longestSleep = time.Minute
)

// Fetcher is the call that leases material.
type Fetcher interface {
	Fetch(context.Context, *connect.Request[api.FetchRequest]) (*connect.Response[api.FetchResponse], error)
}

// Cache holds one lease of each credential that the bindings name.
type Cache struct {
	client Fetcher
	key    hpke.PrivateKey
	log    *slog.Logger

	life    context.Context // of the fetches, which outlive the request that began them
	end     context.CancelFunc
	flights sync.WaitGroup
	stored  chan struct{} // a lease came: Run looks when it expires

	mu      sync.Mutex
	closed  bool
	entries map[string]*entry // by credential id
}

// entry is one version of one credential. Dropped from the map it is dead: a
// fetch that comes back to it is thrown away, so nothing old returns.
type entry struct {
	id      string
	version uint64
	held    *held         // nil: none
	flight  *flight       // nil: no fetch under way
	failure error         // of the last fetch
	away    bool          // the failure is the control plane's absence
	retry   deadline      // no fetch before it
	pause   time.Duration // the last one, of retry
}

type flight struct {
	done   chan struct{}
	cancel context.CancelFunc
}

// NewCache makes a Cache that serves nothing until Keep says what it may.
func NewCache(client Fetcher, key hpke.PrivateKey, log *slog.Logger) *Cache {
	life, end := context.WithCancel(context.Background())
	return &Cache{
		client: client, key: key, log: log, life: life, end: end,
		stored: make(chan struct{}, 1), entries: map[string]*entry{},
	}
}

// Get leases the material of a credential's version, for a request to host. The
// caller must Release the lease.
func (c *Cache) Get(ctx context.Context, credentialID string, version uint64, host string) (*Lease, error) {
	for asked := false; ; asked = true {
		lease, flight, err := c.get(credentialID, version, host, asked)
		if flight == nil {
			return lease, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-flight.done:
		}
	}
}

// get gives a lease or an error, or else the fetch to wait for. Who has waited
// for one already takes what it brought.
func (c *Cache) get(id string, version uint64, host string, asked bool) (*Lease, *flight, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[id]
	switch {
	case c.closed:
		return nil, nil, ErrClosed
	case e == nil || e.version != version:
		return nil, nil, ErrSuperseded
	}
	now := time.Now()
	if e.held != nil && e.held.hard.passed(now) {
		e.drop()
	}
	mayAsk := e.failure == nil || e.retry.passed(now)
	usable := e.held != nil && (!e.held.fresh.passed(now) || e.away || asked && e.failure == nil)
	switch {
	case usable:
		if e.held.refresh.passed(now) && mayAsk {
			c.fetch(e, host)
		}
		return e.held.lease(), nil, nil
	case e.failure != nil && (asked || !mayAsk):
		return nil, nil, e.failure
	}
	return nil, c.fetch(e, host), nil
}

// fetch starts a fetch for e unless one is under way, and gives the one that is.
func (c *Cache) fetch(e *entry, host string) *flight {
	if e.flight == nil {
		ctx, cancel := context.WithTimeout(c.life, fetchTimeout)
		f := &flight{done: make(chan struct{}), cancel: cancel}
		e.flight = f
		c.flights.Go(func() {
			defer cancel()
			lease, err := c.lease(ctx, e.id, e.version, host)
			c.settle(e, lease, err)
			close(f.done)
		})
	}
	return e.flight
}

// settle puts the outcome of a fetch into e.
func (c *Cache) settle(e *entry, fetched *held, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e.flight = nil
	if c.closed || c.entries[e.id] != e {
		if fetched != nil {
			fetched.release()
		}
		return
	}
	if err != nil {
		c.fail(e, err)
		return
	}
	e.drop()
	e.held, e.failure, e.away, e.pause = fetched, nil, false, 0
	select {
	case c.stored <- struct{}{}:
	default:
	}
}

// fail remembers why a fetch failed and when the next may be tried.
func (c *Cache) fail(e *entry, err error) {
	first := e.failure == nil
	e.failure, e.away = err, isAway(err)
	if errors.Is(err, ErrRefused) {
		e.drop()
		e.pause = refusalMemory
	} else {
		e.pause = min(max(2*e.pause, 250*time.Millisecond), 5*time.Second)
	}
	e.retry = deadline{time.Now().Add(e.pause/2 + rand.N(e.pause))}
	if !first {
		return
	}
	attributes := []any{"credential", e.id, "version", e.version, "error", err}
	if e.held != nil {
		attributes = append(attributes, "lease_until", e.held.hard.at.Round(0))
	}
	c.log.Warn("material not fetched", attributes...)
}

// Keep drops and wipes everything that is not exactly one of versions
// (credential id to version). Nothing else is served until the next Keep.
func (c *Cache) Keep(versions map[string]uint64) { c.Replace(versions, func() {}) }

// Replace is Keep, and calls publish before any Get can see the change: who then
// gets ErrSuperseded finds what publish put in place. publish must not call the Cache.
func (c *Cache) Replace(versions map[string]uint64, publish func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, e := range c.entries {
		switch version, kept := versions[id]; {
		case !kept || version != e.version:
			c.remove(e)
		case errors.Is(e.failure, ErrRefused): // perhaps of what lay between, as a pin that came back
			e.failure, e.retry = nil, deadline{}
		}
	}
	for id, version := range versions {
		if c.entries[id] == nil {
			c.entries[id] = &entry{id: id, version: version}
		}
	}
	publish()
}

func (c *Cache) remove(e *entry) {
	delete(c.entries, e.id)
	e.drop()
	if e.flight != nil {
		e.flight.cancel()
	}
}

// drop gives up the entry's lease. The last who uses it wipes it.
func (e *entry) drop() {
	if e.held != nil {
		e.held.release()
		e.held = nil
	}
}

// Run wipes leases as they expire. When ctx ends it gives up all of them and
// waits for the fetches under way; Get then fails with ErrClosed, so ctx should
// outlive the last request. It returns nil.
func (c *Cache) Run(ctx context.Context) error {
	defer c.close()
	for {
		timer := time.NewTimer(c.expire())
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-c.stored:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// expire drops expired leases and says how long no other will expire.
func (c *Cache) expire() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, next := time.Now(), longestSleep
	for _, e := range c.entries {
		switch {
		case e.held == nil:
		case e.held.hard.passed(now):
			e.drop()
		default:
			next = min(next, e.held.hard.at.Sub(now))
		}
	}
	return next
}

func (c *Cache) close() {
	c.mu.Lock()
	c.closed = true
	for _, e := range c.entries {
		c.remove(e)
	}
	c.mu.Unlock()
	c.end()
	c.flights.Wait()
}
