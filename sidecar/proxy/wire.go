package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/sidecar/head"
)

// wire is one HTTP/1.1 connection to an upstream. It carries one exchange at a
// time, which has it to itself.
type wire struct {
	pool *wires
	end  *terminal
	conn net.Conn
	tap  *tap // below TLS; nil without
	sign *sign

	in        *bufio.Reader // only during an exchange
	head      int           // bytes that heads may still have; -1 outside of one
	timed     atomic.Bool   // a deadline for the head is set
	until     time.Time     // which
	served    int           // exchanges before this one
	heard     bool          // the upstream has answered something in this exchange
	idleSince time.Time
}

func newWire(conn net.Conn, pool *wires, end *terminal) *wire {
	w := &wire{pool: pool, end: end, conn: conn, head: -1}
	raw := conn
	if below, ok := netConn(conn).(*tap); ok {
		w.tap, raw = below, below.Conn
	}
	w.sign = newSign(raw)
	return w
}

// drop closes the connection; its exchange has no use for it any more. Somebody
// may still be reading through its buffer, which therefore nobody else gets.
func (w *wire) drop() {
	w.conn.Close()
	w.pool.leave(w.end)
}

var errLongHead = errors.New("the head of the response is too long")

// Read reads from the upstream, as much as a head may have.
func (w *wire) Read(p []byte) (int, error) {
	if w.head < 0 {
		if err := w.untime(); err != nil { // a stream may take its time
			return 0, err
		}
		return w.conn.Read(p)
	}
	if w.head == 0 {
		return 0, errLongHead
	}
	n, err := w.conn.Read(p[:min(len(p), w.head)])
	w.head -= n
	w.heard = w.heard || n > 0
	return n, err
}

// untime takes the deadline away.
func (w *wire) untime() error {
	if !w.timed.CompareAndSwap(true, false) {
		return nil
	}
	return w.conn.SetReadDeadline(time.Time{})
}

// roundTrip sends a request and reads the head of its response. After an error
// the connection is of no use.
func (w *wire) roundTrip(ctx context.Context, t *travel, out *http.Request) (*http.Response, error) {
	x := &exchange{wire: w, travel: t}
	x.stop = context.AfterFunc(ctx, func() { w.conn.Close() })
	w.in, w.head, w.heard = w.pool.buffers.answer(w), maxAnswerHead, false
	response, err := x.send(out)
	if err != nil {
		x.stop()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if w.served == 0 {
			err = blame(w.conn, err)
		}
		return nil, err
	}
	return response, nil
}

// exchange is one request and its response on a wire.
type exchange struct {
	*wire
	travel   *travel
	stop     func() bool   // of ending with the context
	proceed  chan struct{} // closed when the upstream wants the body
	once     atomic.Bool   // proceed is closed
	unwanted atomic.Bool   // without the body being asked for
	read     atomic.Bool   // all of the body: it is being written, or was
	sent     bool          // all of the request
	finished atomic.Bool

	mu    sync.Mutex // guards the deadline of the head
	begun bool       // the final response has
}

func (x *exchange) send(out *http.Request) (*http.Response, error) {
	if out.Body == nil || x.travel.ready {
		w := x.pool.buffers.request(x.conn)
		defer x.pool.buffers.putRequest(w)
		if err := x.write(w, out, out.Body); err != nil {
			return nil, fmt.Errorf("send the request: %w", err)
		}
		x.sent = true
		return x.receive(out)
	}
	if err := x.untime(); err != nil {
		return nil, fmt.Errorf("send the request: %w", err)
	}
	x.proceed, x.travel.upload = make(chan struct{}), make(chan error, 1)
	body := &eager{ReadCloser: out.Body, exchange: x, wait: out.Header.Get("Expect") != ""}
	go func() {
		w := x.pool.buffers.upload(x.conn)
		defer x.pool.buffers.putUpload(w)
		body.flush = w.Flush
		err := x.write(w, out, body)
		if err == nil {
			err = x.expect()
		}
		x.travel.upload <- err
		if body.failed {
			x.conn.Close() // so that half a request is not taken for a whole one
		}
	}()
	response, err := x.receive(out)
	if err != nil {
		select {
		case sent := <-x.travel.upload:
			x.travel.upload <- sent
			if sent != nil {
				err = sent // the cause of what was received
			}
		default:
		}
	}
	x.answered()
	return response, err
}

// answered ends the wait for a word that will not come.
func (x *exchange) answered() {
	if x.once.CompareAndSwap(false, true) {
		x.unwanted.Store(true)
		close(x.proceed)
	}
}

// permit lets the body go.
func (x *exchange) permit() {
	if x.proceed != nil && x.once.CompareAndSwap(false, true) {
		close(x.proceed)
	}
}

// write sends a request with a body.
func (x *exchange) write(w *bufio.Writer, out *http.Request, body io.ReadCloser) error {
	request := *out
	request.Body = body
	send := head.WriteRequest
	if x.travel.upload != nil { // eager flushes what it is copied to
		send = func(w *bufio.Writer, r *http.Request) error { return r.Write(copied{w}) }
	}
	if err := send(w, &request); err != nil {
		return err
	}
	return w.Flush()
}

// copied is what a body is copied to that flushes it: unlike a bufio.Writer it is not
// read into, which would put what is read where the flushed bytes were.
type copied struct{ w *bufio.Writer }

func (c copied) Write(p []byte) (int, error) { return c.w.Write(p) }

// WriteByte keeps net/http from making a buffer of its own.
func (c copied) WriteByte(b byte) error { return c.w.WriteByte(b) }

// eager is a body that comes over time: what was written so far is sent before
// more is waited for.
type eager struct {
	io.ReadCloser
	exchange *exchange
	flush    func() error
	wait     bool // for the upstream to ask for it
	failed   bool // it can't be read to its end
}

var errUnwanted = errors.New("the upstream answered without the body")

func (e *eager) Read(p []byte) (int, error) {
	if err := e.flush(); err != nil {
		return 0, err
	}
	if e.wait {
		e.wait = false
		select {
		case <-e.exchange.proceed:
		case <-time.After(continuePause):
		}
		if e.exchange.unwanted.Load() {
			return 0, errUnwanted // while the answer is still being read
		}
	}
	n, err := e.ReadCloser.Read(p)
	e.failed = err != nil && err != io.EOF
	if err == io.EOF {
		e.exchange.read.Store(true)
	}
	return n, err
}

// expect bounds the wait for the head of the response, from when the upstream
// has all of the request.
func (x *exchange) expect() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.begun {
		return nil
	}
	now := time.Now()
	if x.timed.Load() && x.until.After(now.Add(x.pool.bounds.answer)) {
		return nil // that of an exchange before is late enough
	}
	x.until = now.Add(x.pool.bounds.answer * 5 / 4)
	x.timed.Store(true)
	return x.conn.SetReadDeadline(x.until)
}

// receive reads the head of the final response, and passes on those before it.
func (x *exchange) receive(out *http.Request) (*http.Response, error) {
	if x.travel.upload == nil { // else it expects when all is sent
		if err := x.expect(); err != nil {
			return nil, err
		}
	}
	for {
		response, err := head.ReadResponse(x.in, out)
		if err != nil {
			return nil, fmt.Errorf("read the response: %w", err)
		}
		if response.ProtoMajor != 1 || response.StatusCode < 100 {
			return nil, errors.New("the response is not HTTP/1") // net/http reads HTTP/2.0 000
		}
		if response.StatusCode >= 200 || response.StatusCode == http.StatusSwitchingProtocols {
			return response, x.begin(response)
		}
		if response.StatusCode == http.StatusContinue {
			x.permit()
		}
		x.travel.interim(response.StatusCode, response.Header)
	}
}

// begin makes the body of a response the owner of the exchange.
func (x *exchange) begin(response *http.Response) error {
	x.mu.Lock()
	x.begun = true
	x.mu.Unlock()
	x.head = -1
	if response.StatusCode == http.StatusSwitchingProtocols {
		response.Body = &switched{x}
		x.travel.hold(func() { x.finish(false) })
		return nil
	}
	body := &wireBody{ReadCloser: response.Body, exchange: x, reusable: !response.Close}
	if response.Body == http.NoBody {
		body.end(true)
	} else {
		response.Body = body
	}
	return nil
}

// finish gives the connection back, if nothing of the exchange is left on it.
func (x *exchange) finish(reusable bool) {
	if x.finished.Swap(true) {
		return
	}
	if x.travel.upload != nil && reusable && x.read.Load() {
		// The answer may be here before the upload's goroutine is back from its last write.
		select {
		case err := <-x.travel.upload:
			x.sent = err == nil
			x.travel.upload <- err
		case <-time.After(lastWrite):
		}
	}
	if !x.stop() || !reusable || !x.sent || x.in.Buffered() > 0 || x.early() {
		x.drop()
		return
	}
	x.pool.buffers.putAnswer(x.in)
	x.in = nil
	x.served++
	x.pool.put(x.wire)
}

// early reports whether TLS has bytes after the response that nobody asked for.
func (x *exchange) early() bool {
	if x.tap == nil {
		return false
	}
	x.tap.shut.Store(true)
	defer x.tap.shut.Store(false)
	var b [1]byte
	n, err := x.conn.Read(b[:])
	return n > 0 || !errors.Is(err, errShut)
}

// tap is the connection below TLS. While it is shut TLS gives only what it has.
type tap struct {
	net.Conn
	closed func() // called when it is closed; nil for nobody
	shut   atomic.Bool
	asked  bool // the upstream wants to know the client by a certificate, and got none
	shown  bool // it got one
	http2  bool // it was agreed on
}

// blame says of an error on a connection that has given no response yet why that
// is, where it is known: in TLS 1.3 an upstream refuses a client without a
// certificate when the handshake is over, and its word of it may be lost.
func blame(c net.Conn, err error) error {
	if below, ok := netConn(c).(*tap); ok && below.asked {
		return fmt.Errorf("%w: %w", errClientCertificate, err)
	} else if ok && below.shown {
		return fmt.Errorf("%w: %w", errCertificateRefused, err)
	}
	return err
}

// Close closes the connection.
func (t *tap) Close() error {
	if t.closed != nil {
		t.closed()
	}
	return t.Conn.Close()
}

// NetConn is the connection that TLS runs over.
func (t *tap) NetConn() net.Conn { return t.Conn }

func (t *tap) Read(p []byte) (int, error) {
	if t.shut.Load() {
		return 0, errShut
	}
	return t.Conn.Read(p)
}

// errShut is an error that crypto/tls does not keep.
var errShut net.Error = shut{}

type shut struct{}

func (shut) Error() string   { return "nothing is read now" }
func (shut) Timeout() bool   { return true }
func (shut) Temporary() bool { return true }

// wireBody is a response's body. Its end, or Close, ends the exchange.
type wireBody struct {
	io.ReadCloser
	exchange *exchange
	reusable bool
}

func (b *wireBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.end(err == io.EOF)
	}
	return n, err
}

func (b *wireBody) Close() error {
	b.end(false)
	return nil
}

func (b *wireBody) end(whole bool) { b.exchange.finish(whole && b.reusable) }

// switched is what a connection carries after a 101. Close ends it, but whoever
// is reading then still has its buffer, so the exchange is finished later.
type switched struct{ exchange *exchange }

func (s *switched) Read(p []byte) (int, error)  { return s.exchange.in.Read(p) }
func (s *switched) Write(p []byte) (int, error) { return s.exchange.conn.Write(p) }

func (s *switched) Close() error { return s.exchange.conn.Close() }
