package exchange

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"sallyport/control"
	"sallyport/control/api"
)

const (
	// renewBefore the expiry of what is kept it is exchanged anew, and kept until then.
	renewBefore = 6 * time.Minute // longer than a lease is fresh
	// lastMoments before its expiry nothing is handed out: clocks differ, and requests
	// take time. Of what lives shorter, a tenth.
	lastMoments = 30 * time.Second
	// shortestLife is of what is worth being handed out.
	shortestLife = 5 * time.Second

	// patience is how long a sidecar's call waits for an exchange: less than it waits
	// for the call. The exchange goes on for the next who asks.
	patience        = 4 * time.Second
	exchangeTimeout = 20 * time.Second // for all of it, the database included
	firstPause      = time.Second      // after a failure, doubled with each
	lastPause       = time.Minute
)

// kept is what was minted, in memory, until it expires. Many who ask at once wait for
// one exchange; a failure is remembered for a while, so that a server which is down or
// refuses is not asked at every request.
type kept struct {
	log      *slog.Logger
	flights  sync.WaitGroup
	life     context.Context
	end      context.CancelFunc
	failures time.Duration // how long the last failure is remembered

	mu      sync.Mutex
	closed  bool
	entries map[string]*entry // by credential id
}

// entry is one version of a credential.
type entry struct {
	version int64
	minted  Minted
	expiry  time.Time // as it was given; that of minted is before
	renew   time.Time // from here on another is minted
	wipe    *time.Timer
	flight  chan struct{} // closed when it ends; nil: none
	failure error         // of the last exchange
	retry   time.Time
	pause   time.Duration
}

func newKept(log *slog.Logger) *kept {
	life, end := context.WithCancel(context.Background())
	return &kept{log: log, life: life, end: end, failures: 2 * lastPause, entries: map[string]*entry{}}
}

// ErrRotated is that of a version of a credential that was read before another was.
var ErrRotated = control.Errorf(control.CodeUnavailable, "the credential was rotated meanwhile: try again")

var errClosed = control.Errorf(control.CodeUnavailable, "the control plane is stopping")

// material gives a copy of what is kept, or of what mint gives, which gets the expiry of
// what there was before. What is kept serves
// while another is minted, and for as long as that fails.
func (k *kept) material(ctx context.Context, c control.Credential, mint func(context.Context, time.Time) (Minted, error)) (api.Material, time.Time, error) {
	over := time.NewTimer(patience)
	defer over.Stop()
	for asked := false; ; asked = true {
		material, expiry, flight, err := k.look(c, mint, asked)
		if flight == nil {
			return material, expiry, err
		}
		select {
		case <-flight:
		case <-ctx.Done():
			return material, expiry, ctx.Err()
		case <-over.C:
			return material, expiry, control.Errorf(control.CodeExchange, "the exchange for %s/%s takes long: try again", c.Vault, c.Name)
		}
	}
}

// look gives material or an error, or else the flight to wait for.
func (k *kept) look(c control.Credential, mint func(context.Context, time.Time) (Minted, error), asked bool) (api.Material, time.Time, chan struct{}, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	none := api.Material{}
	if k.closed {
		return none, time.Time{}, nil, errClosed
	}
	e := k.entries[c.ID]
	switch {
	case e != nil && e.version > c.Version:
		return none, time.Time{}, nil, ErrRotated
	case e == nil || e.version < c.Version:
		k.drop(c.ID)
		e = &entry{version: c.Version}
		k.entries[c.ID] = e
	}
	now := time.Now()
	serves := e.minted.Material.Token != nil && now.Before(e.minted.Expiry)
	if (!serves || !now.Before(e.renew)) && e.flight == nil && !now.Before(e.retry) && !(asked && e.failure != nil) {
		k.fly(c, e, mint)
	}
	switch {
	case serves:
		return api.Material{Username: e.minted.Material.Username, Token: slices.Clone(e.minted.Material.Token)}, e.minted.Expiry, nil, nil
	case e.flight != nil:
		return none, time.Time{}, e.flight, nil
	}
	return none, time.Time{}, nil, e.failure
}

// fly begins an exchange, which goes on whoever waits for it: one that was broken off
// could have used a secret up. k.mu is held.
func (k *kept) fly(c control.Credential, e *entry, mint func(context.Context, time.Time) (Minted, error)) {
	flight, known := make(chan struct{}), e.expiry
	e.flight = flight
	k.flights.Go(func() {
		ctx, cancel := context.WithTimeout(k.life, exchangeTimeout)
		defer cancel()
		minted, err := mint(ctx, known)
		k.land(c, e, minted, err)
		close(flight)
	})
}

// land puts the outcome of an exchange into e.
func (k *kept) land(c control.Credential, e *entry, minted Minted, err error) {
	now := time.Now()
	left := minted.Expiry.Sub(now)
	if err == nil && left < shortestLife {
		minted.Wipe()
		err = control.Errorf(control.CodeExchange, "what was given for %s/%s has expired as it came; compare the clocks", c.Vault, c.Name)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	e.flight = nil
	if k.closed || k.entries[c.ID] != e {
		minted.Wipe()
		return
	}
	if err != nil {
		k.fail(c, e, err)
		return
	}
	e.minted.Wipe()
	e.expiry = minted.Expiry
	minted.Expiry = minted.Expiry.Add(-min(lastMoments, left/10))
	e.minted, e.renew, e.failure, e.retry, e.pause = minted, minted.Expiry.Add(-min(renewBefore, left/4)), nil, time.Time{}, 0
	if e.wipe != nil {
		e.wipe.Stop()
	}
	e.wipe = time.AfterFunc(time.Until(minted.Expiry), func() { k.expire(c.ID, e) })
}

// fail remembers why an exchange failed and when the next may be tried. k.mu is held.
func (k *kept) fail(c control.Credential, e *entry, err error) {
	if e.failure == nil {
		k.log.Warn("exchange failed", "credential", c.Vault+"/"+c.Name, "auth", c.Auth, "error", err)
	}
	if control.CodeOf(err) == "" { // ours: of the database, or of a canceled context
		err = control.Errorf(control.CodeExchange, "the exchange for %s/%s could not be carried out", c.Vault, c.Name)
	}
	if !time.Now().Before(e.minted.Expiry) {
		e.minted.Wipe()
		if e.wipe != nil {
			e.wipe.Stop()
		}
		e.wipe = time.AfterFunc(k.failures, func() { k.expire(c.ID, e) })
	}
	e.failure = err
	e.pause = min(max(2*e.pause, firstPause), lastPause)
	e.retry = time.Now().Add(e.pause)
}

// expire wipes what e holds when it has expired, or forgets that it failed when nobody
// has asked again, unless it was minted anew.
func (k *kept) expire(id string, e *entry) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.entries[id] == e && e.flight == nil && !time.Now().Before(e.minted.Expiry) {
		k.drop(id)
	}
}

// drop wipes and forgets an entry. A flight of it lands nowhere. k.mu is held.
func (k *kept) drop(id string) {
	if e := k.entries[id]; e != nil {
		if e.wipe != nil {
			e.wipe.Stop()
		}
		e.minted.Wipe()
		delete(k.entries, id)
	}
}

func (k *kept) close() {
	k.mu.Lock()
	k.closed = true
	for id := range k.entries {
		k.drop(id)
	}
	k.mu.Unlock()
	k.flights.Wait()
	k.end()
}
