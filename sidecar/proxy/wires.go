package proxy

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

// wires are the HTTP/1.1 connections of one pool: those that are idle, and how
// many there may be.
type wires struct {
	buffers *buffers
	bounds  bounds
	connect func(context.Context, place) (net.Conn, error)

	mu     sync.Mutex
	places map[place]*terminal
	closed bool
	sweep  *time.Timer // runs while a wire is idle
}

// terminal is the connections to one place.
type terminal struct {
	place place
	slots chan struct{} // one an exchange under way
	users int           // that have a slot or wait for one
	idle  []*wire       // the one used last is last
}

// errClosedPool is that of connections which a change of credentials or policy made
// old before they were had.
var errClosedPool = errors.New("the connections were closed meanwhile")

// roundTrip sends a request over an idle connection or a new one. One that
// turns out to be dead is replaced once, where that can't do a thing twice.
func (ws *wires) roundTrip(ctx context.Context, to place, t *travel, out *http.Request) (*http.Response, error) {
	w, err := ws.take(ctx, to, t, true)
	if err != nil {
		return nil, err
	}
	t.depart()
	response, err := w.roundTrip(ctx, t, out)
	if err == nil {
		return response, nil
	}
	again := w.served > 0 && !w.heard && ctx.Err() == nil && idempotent(out.Method) && (t.body == nil || t.body.n.Load() == 0)
	w.drop()
	if !again || t.upload != nil {
		return nil, err
	}
	if w, err = ws.take(ctx, to, t, false); err != nil {
		return nil, err
	}
	if response, err = w.roundTrip(ctx, t, out); err != nil {
		w.drop()
	}
	return response, err
}

// take gives a connection for one exchange, which put or drop gives back, if the
// exchange may still have it.
func (ws *wires) take(ctx context.Context, to place, t *travel, reuse bool) (*wire, error) {
	end, err := ws.terminal(to)
	if err != nil {
		return nil, err
	}
	entered := false
	select {
	case end.slots <- struct{}{}:
		entered = true
		if w := ws.sound(end, reuse); w != nil {
			return w, nil // without a wait, so that the plan stands as it did just now
		}
	default:
	}
	ctx, d := t.leaving.wait(ctx, t.plan.Stands)
	w, err := ws.await(ctx, end, entered, reuse)
	if d == nil {
		return w, err
	}
	defer d.recall()
	if err != nil {
		return nil, d.end(err)
	}
	if err := d.leave(); err != nil {
		ws.put(w)
		return nil, err
	}
	return w, nil
}

// await waits for a slot, unless it has been entered, and a connection.
func (ws *wires) await(ctx context.Context, end *terminal, entered, reuse bool) (*wire, error) {
	if !entered {
		select {
		case end.slots <- struct{}{}:
		case <-ctx.Done():
			ws.desert(end)
			return nil, ctx.Err()
		case <-time.After(ws.bounds.queue):
			ws.desert(end)
			return nil, &Error{Status: http.StatusServiceUnavailable, Code: "upstream_busy", RetryAfter: time.Second,
				Message: end.place.host + " has as many requests under way as may be at once; try again"}
		}
		if w := ws.sound(end, reuse); w != nil {
			return w, nil
		}
	}
	conn, err := ws.connect(ctx, end.place)
	if err != nil {
		ws.leave(end)
		return nil, err
	}
	return newWire(conn, ws, end), nil
}

// sound gives an idle connection that is still good; nil if there is none.
func (ws *wires) sound(end *terminal, reuse bool) *wire {
	for reuse {
		w := ws.popIdle(end)
		if w == nil {
			break
		}
		if !w.sign.found() {
			return w
		}
		w.conn.Close()
	}
	return nil
}

// leave gives a slot back.
func (ws *wires) leave(end *terminal) {
	<-end.slots
	ws.desert(end)
}

// desert is for who has no slot, or none any more. Places that nobody uses are
// forgotten, so that names which lead nowhere leave nothing.
func (ws *wires) desert(end *terminal) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if end.users--; end.users == 0 && len(end.idle) == 0 {
		delete(ws.places, end.place)
	}
}

func (ws *wires) terminal(to place) (*terminal, error) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.closed {
		return nil, errClosedPool
	}
	end := ws.places[to]
	if end == nil {
		if ws.places == nil {
			ws.places = make(map[place]*terminal)
		}
		end = &terminal{place: to, slots: make(chan struct{}, ws.bounds.perHost)}
		ws.places[to] = end
	}
	end.users++
	return end, nil
}

func (ws *wires) popIdle(end *terminal) *wire {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	n := len(end.idle)
	if n == 0 {
		return nil
	}
	w := end.idle[n-1]
	end.idle[n-1] = nil
	end.idle = end.idle[:n-1]
	return w
}

// put keeps a connection whose exchange is complete for the next.
func (ws *wires) put(w *wire) {
	ws.mu.Lock()
	keep := !ws.closed
	if keep {
		w.idleSince = time.Now()
		w.end.idle = append(w.end.idle, w)
		if ws.sweep == nil {
			ws.sweep = time.AfterFunc(ws.bounds.idle/3, ws.expire)
		}
	}
	ws.mu.Unlock()
	ws.leave(w.end)
	if !keep {
		w.conn.Close()
	}
}

// expire closes what has been idle for too long, and forgets places without
// connections.
func (ws *wires) expire() {
	var old []*wire
	ws.mu.Lock()
	left := 0
	limit := time.Now().Add(-ws.bounds.idle)
	for to, end := range ws.places {
		n := 0
		for n < len(end.idle) && end.idle[n].idleSince.Before(limit) {
			n++
		}
		old = append(old, end.idle[:n]...)
		end.idle = append([]*wire(nil), end.idle[n:]...)
		left += len(end.idle)
		if len(end.idle) == 0 && end.users == 0 {
			delete(ws.places, to)
		}
	}
	if left > 0 && !ws.closed {
		ws.sweep.Reset(ws.bounds.idle / 3)
	} else {
		ws.sweep = nil
	}
	ws.mu.Unlock()
	for _, w := range old {
		w.conn.Close()
	}
}

// close closes the idle connections; the others close when they would become idle.
func (ws *wires) close() {
	ws.mu.Lock()
	ws.closed = true
	var idle []*wire
	for _, end := range ws.places {
		idle = append(idle, end.idle...)
		end.idle = nil
	}
	if ws.sweep != nil {
		ws.sweep.Stop()
	}
	ws.mu.Unlock()
	for _, w := range idle {
		w.conn.Close()
	}
}
