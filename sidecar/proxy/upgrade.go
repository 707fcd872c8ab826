package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// upgrade passes on what follows a 101, both ways, until both sides have ended: as
// it is, or through what the plan has for its messages.
func (s *Server) upgrade(t *travel, out *http.Request, response *http.Response) error {
	back, ok := response.Body.(io.ReadWriteCloser)
	if !ok || !accepts(out, response) {
		return s.fail(t, Errorf(http.StatusBadGateway, "upgrade_failed", "%s changed the connection to something that was not asked for", t.Host))
	}
	joined := &tunnel{back: back, holds: func() bool { return t.plan.Holds == nil || t.plan.Holds() }}
	if !s.tunnels.add(joined) {
		return s.fail(t, Errorf(http.StatusForbidden, "decision_changed", "what the request was permitted by has changed meanwhile"))
	}
	defer s.tunnels.remove(joined)
	if s.config.Opened != nil {
		if err := s.config.Opened(t.Exchange); err != nil {
			return s.fail(t, err)
		}
	}
	front, err := t.client.upgrade(response)
	if err != nil {
		t.Reason, t.err = "broken_off", fmt.Errorf("%w: %w", errBroken, err)
		return errBroken
	}
	joined.join(front, t.plan.Messages, &s.buffers)
	t.RequestBytes, t.ResponseBytes = joined.sent.Load(), joined.received.Load()
	if joined.cut.Load() {
		t.Reason, t.err = "cut_off", errCutOff
		return errBroken
	}
	if fault := joined.fault.Load(); fault != nil {
		answer := s.explain(t.Exchange, *fault)
		t.Reason, t.err = answer.Code, answer
		return errBroken
	}
	return nil
}

var errCutOff = errors.New("the request would be decided otherwise now, or the sidecar is stopping")

// tunnel is a connection that changed its protocol.
type tunnel struct {
	holds    func() bool
	back     io.ReadWriteCloser
	front    io.ReadWriteCloser // once join has begun
	cut      atomic.Bool
	fault    atomic.Pointer[error] // what Messages ended it for
	sent     atomic.Uint64
	received atomic.Uint64

	mu sync.Mutex // guards front until join has begun
}

// lingerTunnel is how long one direction may go on when the upstream has ended the
// other. A client may end its own half for as long as it likes.
const lingerTunnel = 30 * time.Second

// Messages gives what is written to in place of a client and of an upstream whose
// connection changed its protocol. An error of Write that is not the writer's own
// ends the connection. nil for the writer itself.
type Messages func(client, upstream io.Writer) (toClient, toUpstream io.WriteCloser)

// lingerFault is how long a client has to read why its connection ends.
const lingerFault = time.Second

// join passes bytes on until both sides have ended, or one failed.
func (j *tunnel) join(front io.ReadWriteCloser, messages Messages, b *buffers) {
	j.mu.Lock()
	j.front = front
	j.mu.Unlock()
	defer j.close()
	if j.cut.Load() {
		return
	}
	toFront, toBack := io.Writer(writing{front}), io.Writer(writing{j.back})
	if messages != nil {
		client, upstream := messages(toFront, toBack)
		if client != nil {
			toFront = client
			defer client.Close()
		}
		if upstream != nil {
			toBack = upstream
			defer upstream.Close()
		}
	}
	said, heard := make(chan struct{}), make(chan struct{})
	var both sync.WaitGroup
	both.Go(func() {
		err := relay(toBack, front, &j.sent, b)
		if err == nil {
			err = closeWrite(j.back)
		}
		close(said)
		switch {
		case j.judge(err):
			j.explain(front)
		case errors.Is(err, errDeaf):
			j.linger(heard) // the upstream has ended, and perhaps said why
		case err != nil:
			j.close()
		}
	})
	both.Go(func() {
		err := relay(toFront, j.back, &j.received, b)
		if err == nil {
			err = closeWrite(front)
		}
		close(heard)
		if j.judge(err) || err != nil {
			j.close()
			return
		}
		j.linger(said)
	})
	both.Wait()
}

// judge keeps err if it is one that Messages ended the connection for.
func (j *tunnel) judge(err error) bool {
	var refused *refusedError
	if !errors.As(err, &refused) {
		return false
	}
	j.fault.CompareAndSwap(nil, &refused.cause)
	return true
}

// explain ends both sides when the client had time to read why.
func (j *tunnel) explain(front io.ReadWriteCloser) {
	// Where it can't be said, the end is that of the connection.
	_ = closeWrite(front)
	bound := time.AfterFunc(lingerFault, j.close)
	defer bound.Stop()
	_, _ = io.Copy(io.Discard, front)
	j.close()
}

// linger gives the other direction time to end by itself.
func (j *tunnel) linger(other <-chan struct{}) {
	bound := time.NewTimer(lingerTunnel)
	defer bound.Stop()
	select {
	case <-other:
	case <-bound.C:
		j.close()
	}
}

// close ends both sides; a relay that is under way ends too.
func (j *tunnel) close() {
	j.back.Close()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.front != nil {
		j.front.Close()
	}
}

// sever ends both sides at once.
func (j *tunnel) sever() {
	j.cut.Store(true)
	j.close()
	j.mu.Lock()
	defer j.mu.Unlock()
	if stuck, ok := j.front.(interface{ abort() }); ok {
		stuck.abort()
	}
}

// errDeaf is that of a side that can't be written to.
var errDeaf = errors.New("the connection was closed by the other side")

// writing is a side as it is written to.
type writing struct{ io.Writer }

func (w writing) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if err != nil {
		err = errDeaf
	}
	return n, err
}

// refusedError is a piece that could be written and was not.
type refusedError struct{ cause error }

func (e *refusedError) Error() string { return e.cause.Error() }

// relay copies until from ends, and counts.
func relay(to io.Writer, from io.Reader, count *atomic.Uint64, b *buffers) error {
	w := b.writer()
	defer b.putWriter(w)
	buffer := w.bytes[:cap(w.bytes)]
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if _, err := to.Write(buffer[:n]); errors.Is(err, errDeaf) {
				return errDeaf
			} else if err != nil {
				return &refusedError{err}
			}
			count.Add(uint64(n))
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// closeWrite says that nothing more is sent, where that can be said apart.
func closeWrite(c any) error {
	for c != nil {
		if half, ok := c.(interface{ CloseWrite() error }); ok {
			return half.CloseWrite()
		}
		wrapper, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		c = wrapper.NetConn()
	}
	return errors.ErrUnsupported
}

// CloseWrite ends what is sent to the upstream.
func (s *switched) CloseWrite() error { return closeWrite(s.exchange.conn) }

// tunnels are those that are open. They last for hours, so they end when their
// request would be decided otherwise.
type tunnels struct {
	mu     sync.Mutex
	open   map[*tunnel]struct{}
	closed bool
}

// add begins to look after a tunnel, and reports whether it may go on.
func (ts *tunnels) add(j *tunnel) bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.closed || !j.holds() { // who changes that, calls review afterwards
		return false
	}
	if ts.open == nil {
		ts.open = make(map[*tunnel]struct{})
	}
	ts.open[j] = struct{}{}
	return true
}

func (ts *tunnels) remove(j *tunnel) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	delete(ts.open, j)
}

// review ends those that may not go on.
func (ts *tunnels) review() {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for j := range ts.open {
		if !j.holds() {
			j.sever()
		}
	}
}

// close ends all, and takes no more.
func (ts *tunnels) close() {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.closed = true
	for j := range ts.open {
		j.sever()
	}
}
