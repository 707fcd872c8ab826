package proxy

import (
	"context"
	"errors"
	"sync"
)

// ErrChanged is that of a request which was not sent, since what it was decided by was
// changed.
var ErrChanged = errors.New("what the request was decided by was changed before it was sent")

// departures are the requests that have been decided about and wait to be sent: for a
// place among those to their host, for a connection, for its handshakes, for a stream.
// That may take as long as the upstream likes, so a change of what they were decided by
// calls back those that it concerns.
type departures struct {
	mu   sync.Mutex
	open map[*departure]struct{}
}

// departure is one of them.
type departure struct {
	of     *departures
	stands func() error
	recall context.CancelFunc
	fault  error // why it may not be sent
	// offered says that net/http has a connection of HTTP/2 for it, and sends it when
	// that is free. Whether it was sent is known for sure only when it has said so.
	offered bool
}

// wait lists a request until it leaves, or end is called. What it gives ends when the
// request is called back. Of a request that nothing is asked for it is nil.
func (ds *departures) wait(ctx context.Context, stands func() error) (context.Context, *departure) {
	if stands == nil {
		return ctx, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	d := &departure{of: ds, stands: stands, recall: cancel}
	ds.mu.Lock()
	defer ds.mu.Unlock()
	d.list()
	return ctx, d
}

// list waits for changes, from now on.
func (d *departure) list() {
	if d.of.open == nil {
		d.of.open = make(map[*departure]struct{})
	}
	d.of.open[d] = struct{}{}
	d.ask()
}

// ask calls the request back if it does not stand any more.
func (d *departure) ask() {
	if d.fault == nil {
		d.fault = d.stands()
	}
	if d.fault != nil {
		delete(d.of.open, d)
		d.recall()
	}
}

// leave is called when nothing is left to wait for, right before the request is sent.
// After an error it must not be; otherwise nothing calls it back any more.
func (d *departure) leave() error {
	if d == nil {
		return nil
	}
	d.of.mu.Lock()
	defer d.of.mu.Unlock()
	d.ask()
	delete(d.of.open, d)
	return d.recalled()
}

// offer is called when net/http has a connection of HTTP/2 for the request: the first,
// or another where the one before would not have it. It looks at the context when the
// connection is free, and sends nothing if that has ended.
func (d *departure) offer() {
	d.of.mu.Lock()
	defer d.of.mu.Unlock()
	d.list()
	d.offered = d.fault == nil
}

// left is called when the head was sent.
func (d *departure) left() {
	if d == nil {
		return
	}
	d.of.mu.Lock()
	defer d.of.mu.Unlock()
	delete(d.of.open, d)
}

// end says in the place of err, with which the wait has ended, what the request was
// called back for, if it was.
func (d *departure) end(err error) error {
	if d == nil || err == nil {
		return err
	}
	d.of.mu.Lock()
	defer d.of.mu.Unlock()
	if _, waits := d.of.open[d]; waits {
		d.ask() // a change has perhaps ended the wait before it was reviewed
		delete(d.of.open, d)
	}
	if fault := d.recalled(); fault != nil {
		return fault
	}
	return err
}

func (d *departure) recalled() error {
	if d.fault == nil {
		return nil
	}
	return &recalledError{d.fault, d.offered}
}

// review calls back what does not stand any more.
func (ds *departures) review() {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	for d := range ds.open {
		d.ask()
	}
}

// recalledError is that of a request that was called back.
type recalledError struct {
	cause   error
	perhaps bool // it was sent all the same
}

func (e *recalledError) Error() string { return e.cause.Error() }

func (e *recalledError) Unwrap() error { return e.cause }
