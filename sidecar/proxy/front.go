package proxy

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"sallyport/sidecar/head"
)

// front is a client's HTTP/1 connection. One goroutine reads a request, has it
// carried out and reads the next. Buffers are its own only while a request is
// under way, so that an idle connection costs little.
type front struct {
	server *Server
	conn   net.Conn
	raw    syscall.RawConn // below conn; nil in tests alone
	facts  Facts
	ctx    context.Context
	leave  context.CancelFunc // the client is gone
	state  atomic.Int32

	in      *bufio.Reader
	first   [1]byte   // read ahead of in, to wait without a buffer
	pending bool      // first is filled
	fault   error     // of the last read from the connection
	resting bool      // nothing came for a while
	pieces  int       // reads of the request's head
	until   time.Time // the deadline of reads, as far as it is known

	stall
	mu      sync.Mutex // of what is written: the upload's goroutine may say 100
	request *http.Request
	begun   bool // the final response has
	arrived bool // the begin of its body has come: it is sent with the head
	last    bool // no request follows
	taken   bool // the connection is another's now

	watch    *time.Timer
	watching atomic.Bool
	requests atomic.Uint64 // begun
	seen     uint64        // requests when look was there; its own
}

const (
	frontIdle = int32(iota)
	frontBusy
	frontDraining
	frontTaken // what the client ends is no request, and it may end a half of it
)

const (
	// restTime is how long a client may take to its next request before its
	// connection is made to take little room.
	restTime = time.Second
	// watchDelay is how often it is looked whether a client has left while its
	// request waits: nobody reads from the connection then. A request is looked at
	// from the second time on, so that one that takes less costs nothing, and a
	// client may end its half at once.
	watchDelay = 100 * time.Millisecond
	// lingerTimeout and lingerBytes bound what is read and dropped of a body that
	// nobody wanted: a connection closed with bytes unread is reset, and the
	// response may be lost.
	lingerTimeout = 500 * time.Millisecond
	lingerBytes   = 256 << 10
)

func (s *Server) serveHTTP1(ctx context.Context, c net.Conn, facts Facts) {
	f := &front{server: s, conn: c, raw: rawOf(c), facts: facts}
	f.ctx, f.leave = context.WithCancel(ctx)
	defer f.leave()
	f.watch = time.AfterFunc(time.Hour, f.look)
	defer f.watch.Stop()
	defer func() {
		if !f.taken {
			c.Close()
		}
	}()
	if !s.fronts.add(f) {
		return
	}
	defer s.fronts.remove(f)
	defer func() {
		if fault := recover(); fault != nil {
			s.fault(fault)
		}
	}()
	for f.await() && f.serve() {
	}
}

// await waits for the first byte of a request.
func (f *front) await() bool {
	if !f.state.CompareAndSwap(frontBusy, frontIdle) && f.state.Load() == frontDraining {
		return false
	}
	f.request = nil
	f.server.idle(f.conn, true)
	f.pending = f.readFirst(restTime) || f.rest() && f.readFirst(headTimeout)
	return f.pending && f.state.CompareAndSwap(frontIdle, frontBusy)
}

func (f *front) readFirst(wait time.Duration) bool {
	// Half as long again is as good, and most requests then need no new deadline.
	if now := time.Now(); f.until.Before(now.Add(wait)) && f.readBy(now.Add(wait+wait/2)) != nil {
		return false
	}
	n, err := f.conn.Read(f.first[:])
	f.resting = errors.Is(err, os.ErrDeadlineExceeded)
	return n == 1
}

// readBy sets the deadline of reads; the zero time is none.
func (f *front) readBy(t time.Time) error {
	f.until = t
	return f.conn.SetReadDeadline(t)
}

// rest waits where next to nothing is on the stack, which then can shrink: most
// connections do nothing most of the time.
func (f *front) rest() bool {
	return f.resting && f.raw != nil && f.readBy(time.Now().Add(idleTimeout)) == nil && awaitBytes(f.raw) == nil
}

// Read gives the client's bytes, the one that await read first. A head that
// comes in several pieces must be complete in good time.
func (f *front) Read(p []byte) (int, error) {
	if f.pending && len(p) > 0 {
		p[0], f.pending, f.pieces = f.first[0], false, 0
		return 1, nil
	}
	if f.pieces++; f.pieces == 2 && f.request == nil {
		if err := f.readBy(time.Now().Add(headTimeout)); err != nil {
			return 0, err
		}
	}
	n, err := f.conn.Read(p)
	f.fault = err
	return n, err
}

// serve carries out one request and reports whether another may follow.
func (f *front) serve() bool {
	f.in = f.server.buffers.reader(f)
	defer func() {
		if !f.taken {
			f.server.buffers.putReader(f.in)
		}
		f.in = nil
	}()
	r, err := f.read()
	if err != nil {
		return false
	}
	f.server.idle(f.conn, false)
	f.request, f.begun, f.arrived, f.last = r, false, true, r.Close
	if r.Method == http.MethodConnect && f.facts.Direct {
		f.tunnel(r)
		return false
	}
	f.requests.Add(1)
	f.lookSoon()
	broken := f.server.handle(f.ctx, f, r, f.facts, r.ContentLength > 0 && int64(f.in.Buffered()) >= r.ContentLength)
	switch {
	case f.taken, broken != nil, f.ctx.Err() != nil:
		return false
	case f.last || !ended(r.Body):
		f.linger()
		return false
	}
	return true
}

// read reads a request's head. What has no meaning to net/http is answered here.
func (f *front) read() (*http.Request, error) {
	r, err := head.ReadRequest(f.in)
	if err == nil && r.Body != http.NoBody {
		return r, f.readBy(time.Time{})
	}
	if err == nil {
		return r, nil // nothing is read before the next deadline is set
	}
	if f.fault != nil {
		err = f.fault // net/http takes the part of a line for a whole one
	}
	var network net.Error
	switch {
	case errors.As(err, &network) && network.Timeout():
		f.reject(Errorf(http.StatusRequestTimeout, "request_timeout", "the request's head was not complete within %v", headTimeout))
	case errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		// The client left, or the strict reader has answered.
	default:
		f.reject(Errorf(http.StatusBadRequest, "malformed_request", "the request is not HTTP/1.1"))
	}
	return nil, err
}

// reject answers what did not become a request.
func (f *front) reject(e *Error) {
	f.request, f.last = &http.Request{ProtoMajor: 1, ProtoMinor: 1}, true
	if _, err := f.respond(e.response(rand.Text())); err == nil {
		f.linger()
	}
}

// lookSoon has look called, once, if that is not to come already.
func (f *front) lookSoon() {
	if f.watching.CompareAndSwap(false, true) {
		f.watch.Reset(watchDelay)
	}
}

// look cancels the request under way when its client has left. It comes again as
// long as requests do.
func (f *front) look() {
	n, state := f.requests.Load(), f.state.Load()
	fresh := n != f.seen
	f.seen = n
	switch {
	case state == frontTaken, f.ctx.Err() != nil, state == frontIdle && !fresh:
	case !fresh && f.raw != nil && hasLeft(f.raw):
		f.leave()
	default:
		f.watch.Reset(watchDelay)
		return
	}
	f.watching.Store(false)
	if f.requests.Load() != n { // one began meanwhile
		f.lookSoon()
	}
}

// linger says that nothing more is sent, and gives the client time to read.
func (f *front) linger() {
	half, ok := f.conn.(interface{ CloseWrite() error })
	if !ok {
		half, ok = netConn(f.conn).(interface{ CloseWrite() error })
	}
	if !ok || half.CloseWrite() != nil || f.conn.SetReadDeadline(time.Now().Add(lingerTimeout)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, f.conn, lingerBytes)
}

func netConn(c net.Conn) net.Conn {
	if wrapper, ok := c.(interface{ NetConn() net.Conn }); ok {
		return wrapper.NetConn()
	}
	return nil
}

// ended reports whether all of a body was read.
func ended(body io.ReadCloser) bool {
	counted, ok := body.(*countedBody)
	return !ok || counted.done.Load()
}

// abort ends the connection.
func (f *front) abort() {
	f.leave()
	f.conn.Close()
}

func (f *front) stopBody() {
	// A deadline can't be set only on a connection that is closed.
	_ = f.conn.SetReadDeadline(time.Unix(1, 0))
}

// detach gives the connection with what was read of it too early. It is not
// HTTP/1 any more.
func (f *front) detach() (net.Conn, error) {
	if err := f.conn.SetReadDeadline(time.Time{}); err != nil {
		return nil, err
	}
	if strict, ok := f.conn.(interface{ Release() }); ok {
		strict.Release()
	}
	early, err := f.in.Peek(f.in.Buffered())
	if err != nil {
		return nil, err
	}
	f.taken = true
	f.state.CompareAndSwap(frontBusy, frontTaken)
	return &detached{Conn: f.conn, early: early}, nil
}

// detached is a connection whose next bytes were read already.
type detached struct {
	net.Conn
	early []byte
}

func (d *detached) NetConn() net.Conn { return d.Conn }

func (d *detached) Read(p []byte) (int, error) {
	if len(d.early) > 0 {
		n := copy(p, d.early)
		d.early = d.early[n:]
		return n, nil
	}
	d.early = nil
	return d.Conn.Read(p)
}

// tunnel joins a direct connection to the host it names.
func (f *front) tunnel(r *http.Request) {
	host, port, refusal := connectTarget(r)
	if refusal != nil {
		f.reject(refusal)
		return
	}
	if _, err := io.WriteString(f.conn, "HTTP/1.1 200 Connection Established\r\n\r\n"); err != nil {
		return
	}
	c, err := f.detach()
	if err != nil {
		return
	}
	f.server.fronts.remove(f)
	f.server.config.Tunnel(f.ctx, c, host, port)
}
