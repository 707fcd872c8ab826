package external

import (
	"bytes"
	"context"
	"sync"
	"time"

	"sallyport/control"
)

const (
	// keepFor is how long a secret that was read serves others who ask.
	keepFor = 30 * time.Second
	// patience is how long a sidecar's call waits for a source: less than it waits for
	// the call. The reading goes on for the next who asks.
	patience    = 4 * time.Second
	readTimeout = 12 * time.Second // for all of it: a turn, a login, a reading

	firstPause = time.Second // after a failure, doubled with each
	lastPause  = 30 * time.Second
)

// Value is a secret that was read.
type Value struct {
	Secret  control.Secret
	Version string // the source's own name for it; "": it has none
}

// kept is what was read, in memory, for a moment. Many who ask at once wait for one
// reading; a failure is remembered, so that a source which is away is not asked at
// every request.
type kept struct {
	flights sync.WaitGroup
	life    context.Context
	end     context.CancelFunc

	mu      sync.Mutex
	closed  bool
	entries map[string]*entry
}

// entry is what is known of one version of a credential.
type entry struct {
	value  Value
	err    error
	until  time.Time     // when neither holds any more
	pause  time.Duration // the last one, of err
	flight chan struct{} // closed when it ends; nil: none
}

func newKept() *kept {
	life, end := context.WithCancel(context.Background())
	return &kept{life: life, end: end, entries: map[string]*entry{}}
}

var errClosed = control.Errorf(control.CodeUnavailable, "the control plane is stopping")

// get gives what is kept by key, or what read gives. The caller wipes it.
func (k *kept) get(ctx context.Context, key string, read func(context.Context) (Value, error)) (Value, error) {
	over := time.NewTimer(patience)
	defer over.Stop()
	for asked := false; ; asked = true {
		value, flight, err := k.look(key, read, asked)
		if flight == nil {
			return value, err
		}
		select {
		case <-flight:
		case <-ctx.Done():
			return Value{}, ctx.Err()
		case <-over.C:
			return Value{}, control.Errorf(control.CodeExchange, "takes long: try again")
		}
	}
}

// look gives a value or an error, or else the flight to wait for. Who has waited for
// one takes what it brought.
func (k *kept) look(key string, read func(context.Context) (Value, error), asked bool) (Value, chan struct{}, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return Value{}, nil, errClosed
	}
	e := k.entries[key]
	if e == nil {
		e = &entry{}
		k.entries[key] = e
	}
	holds := asked || time.Now().Before(e.until)
	switch {
	case e.flight != nil:
		return Value{}, e.flight, nil
	case holds && e.err != nil:
		return Value{}, nil, e.err
	case holds && e.value.Secret != nil:
		return Value{bytes.Clone(e.value.Secret), e.value.Version}, nil, nil
	}
	e.flight = make(chan struct{})
	k.flights.Go(func() {
		ctx, cancel := context.WithTimeout(k.life, readTimeout)
		defer cancel()
		value, err := read(ctx)
		k.land(key, e, value, err)
	})
	return Value{}, e.flight, nil
}

// failure is why the last reading by key failed, if it did and is not forgotten.
func (k *kept) failure(key string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if e := k.entries[key]; e != nil {
		return e.err
	}
	return nil
}

func (k *kept) land(key string, e *entry, value Value, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	close(e.flight)
	e.flight = nil
	if k.closed {
		value.Secret.Wipe()
		return
	}
	e.value.Secret.Wipe()
	e.value, e.err = value, err
	lasts := keepFor
	if err != nil {
		e.pause = min(max(2*e.pause, firstPause), lastPause)
		lasts = e.pause
	} else {
		e.pause = 0
	}
	e.until = time.Now().Add(lasts)
	// What failed is known for longer, so that the pauses grow.
	time.AfterFunc(lasts+e.pause, func() { k.expire(key, e) })
}

// expire wipes and forgets an entry that nobody asked for since.
func (k *kept) expire(key string, e *entry) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.entries[key] == e && e.flight == nil && !time.Now().Before(e.until) {
		e.value.Secret.Wipe()
		delete(k.entries, key)
	}
}

// close wipes what is kept, and waits for the readings that are under way.
func (k *kept) close() {
	k.mu.Lock()
	k.closed = true
	for key, e := range k.entries {
		e.value.Secret.Wipe()
		delete(k.entries, key)
	}
	k.mu.Unlock()
	k.end()
	k.flights.Wait()
}
