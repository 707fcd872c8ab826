package proxy

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// gatherBuffer is what a connection gathers, some heads and short bodies. Pieces of
	// more than half of it are written by themselves.
	gatherBuffer = 8 << 10
	// mostGathers bounds the buffers of all connections: what clients do not read may
	// lie in them.
	mostGathers = 2048
)

// gathers are the buffers of gathered connections.
type gathers struct {
	pool sync.Pool
	out  atomic.Int32
}

// get gives an empty one; nil where as many as may be are out.
func (g *gathers) get() *writer {
	if g.out.Add(1) > mostGathers {
		g.out.Add(-1)
		return nil
	}
	if w, ok := g.pool.Get().(*writer); ok {
		return w
	}
	return &writer{bytes: make([]byte, 0, gatherBuffer)}
}

func (g *gathers) put(w *writer) {
	w.bytes = w.bytes[:0]
	g.pool.Put(w)
	g.out.Add(-1)
}

// gathered is a connection that writes a moment later, and in one piece what has come
// until then. net/http flushes each frame of HTTP/2 by itself, and a system call costs
// more than all that was done for it: where many streams are under way, their frames go
// out together. It lies below TLS.
type gathered struct {
	net.Conn
	buffers *gathers

	mu      sync.Mutex
	held    *writer // nil for nothing
	running bool    // run, which is there as long as something is held
	writing bool    // to Conn
	closing bool
	err     error     // of Conn
	changed sync.Cond // any of these
}

func gather(c net.Conn, buffers *gathers) *gathered {
	g := &gathered{Conn: c, buffers: buffers}
	g.changed.L = &g.mu
	return g
}

// NetConn is the connection below.
func (g *gathered) NetConn() net.Conn { return g.Conn }

// Write takes p. What becomes of it the next Write tells, or the end of what is read.
func (g *gathered) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for {
		switch {
		case g.err != nil:
			return 0, g.err
		case g.closing:
			return 0, net.ErrClosed
		case g.hold(p):
			if !g.running {
				g.running = true
				go g.run()
			}
			return len(p), nil
		case g.held == nil && !g.writing:
			return g.pass(p)
		}
		g.changed.Wait()
	}
}

// hold takes p where there is room for it.
func (g *gathered) hold(p []byte) bool {
	switch {
	case len(p) > gatherBuffer/2, g.held != nil && len(g.held.bytes)+len(p) > gatherBuffer:
		return false
	case g.held == nil:
		if g.held = g.buffers.get(); g.held == nil {
			return false
		}
	}
	g.held.bytes = append(g.held.bytes, p...)
	return true
}

// pass writes p, with mu held before and after.
func (g *gathered) pass(p []byte) (int, error) {
	g.writing = true
	g.mu.Unlock()
	n, err := g.Conn.Write(p)
	g.mu.Lock()
	g.writing, g.err = false, err
	g.changed.Broadcast()
	return n, err
}

// run writes what is held until nothing is.
func (g *gathered) run() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.held != nil {
		if g.writing {
			g.changed.Wait()
			continue
		}
		w := g.held
		g.held = nil
		g.changed.Broadcast()
		if g.closing {
			g.bound() // anew: of a machine that is busy nothing is lost by that
		}
		if g.err == nil {
			if _, err := g.pass(w.bytes); err != nil {
				g.Conn.Close() // so that whoever reads learns of it
			}
		}
		g.buffers.put(w)
	}
	g.running = false
	g.changed.Broadcast()
	if g.closing {
		g.Conn.Close()
	}
}

// SetWriteDeadline bounds what is being written. One that has passed already is
// crypto/tls's, so that nothing follows its last word; that may yet have to be written.
func (g *gathered) SetWriteDeadline(t time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closing || !t.IsZero() && !t.After(time.Now()) {
		return nil
	}
	return g.Conn.SetWriteDeadline(t)
}

// Close closes when what is held was written, if the other side takes it soon. It does not
// wait for that: thousands that take nothing are closed one after the other where their
// sandbox is cut off.
func (g *gathered) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closing {
		g.closing = true
		g.changed.Broadcast()
		g.bound()
	}
	if g.running {
		return nil
	}
	return g.Conn.Close()
}

// bound gives what is being written, or about to be, a moment.
func (g *gathered) bound() {
	// It fails only where the connection is closed.
	_ = g.Conn.SetWriteDeadline(time.Now().Add(lastWrite))
}
