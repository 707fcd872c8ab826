package proxy

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"sallyport/sidecar/mint"
)

// pipe gives two ends; what is written to one waits for the other to be read.
func pipe(t *testing.T) (near, far net.Conn) {
	near, far = net.Pipe()
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

func TestGatherGivesAllInOrder(t *testing.T) {
	near, far := pipe(t)
	buffers := new(gathers)
	g := gather(near, buffers)
	sent := make([]byte, 1<<20)
	rand.Read(sent)
	var writing sync.WaitGroup
	writing.Go(func() {
		for rest, size := sent, 1; len(rest) > 0; size = (size*7 + 1) % (2 * gatherBuffer) {
			piece := rest[:min(size, len(rest))]
			if n, err := g.Write(piece); n != len(piece) || err != nil {
				t.Errorf("wrote %d of %d: %v", n, len(piece), err)
			}
			rest = rest[len(piece):]
		}
		g.Close()
	})
	got, err := io.ReadAll(far)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("got %d bytes of %d in another order, or others: %v", len(got), len(sent), err)
	}
	writing.Wait()
	if out := buffers.out.Load(); out != 0 {
		t.Errorf("%d buffers are out", out)
	}
}

func TestGatherWritesTogether(t *testing.T) {
	near, far := pipe(t)
	g := gather(near, new(gathers))
	defer g.Close()
	text := []byte("0123456789")
	for range 2 { // the first is being written when the other is held
		g.Write(text[:1])
		if _, err := io.ReadFull(far, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	g.Write(text[:1])
	var piece [100]byte
	if n, err := far.Read(piece[:1]); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	g.mu.Lock() // as if it was being written
	for g.writing {
		g.changed.Wait()
	}
	g.writing = true
	g.mu.Unlock()
	for i := range text {
		g.Write(text[i : i+1])
	}
	g.mu.Lock()
	g.writing = false
	g.changed.Broadcast()
	g.mu.Unlock()
	if n, err := far.Read(piece[:]); err != nil || !bytes.Equal(piece[:n], text) {
		t.Errorf("%q came first of %q: %v", piece[:n], text, err)
	}
}

func TestGatherHoldsLittle(t *testing.T) {
	near, _ := pipe(t)
	buffers := new(gathers)
	g := gather(near, buffers)
	taken, full := 0, make(chan error)
	go func() {
		for {
			n, err := g.Write(make([]byte, 1000))
			taken += n
			if err != nil {
				full <- err
				return
			}
		}
	}()
	for { // until it is stuck
		g.mu.Lock()
		stuck := g.writing && g.held != nil && len(g.held.bytes)+1000 > gatherBuffer
		g.mu.Unlock()
		if stuck {
			break
		}
	}
	g.Close() // ends both
	rest(g)
	if err := <-full; err == nil {
		t.Error("a Write to a closed connection has no error")
	}
	if taken > 2*gatherBuffer {
		t.Errorf("%d bytes were taken that nobody reads", taken)
	}
	if out := buffers.out.Load(); out != 0 {
		t.Errorf("%d buffers are out", out)
	}
}

func TestGatherWithoutBuffers(t *testing.T) {
	near, far := pipe(t)
	buffers := new(gathers)
	buffers.out.Store(mostGathers)
	g := gather(near, buffers)
	defer g.Close()
	written := make(chan struct{})
	go func() {
		g.Write([]byte("by itself"))
		close(written)
	}()
	var b [20]byte
	if _, err := io.ReadFull(far, b[:1]); err != nil {
		t.Fatal(err)
	}
	select {
	case <-written:
		t.Error("it was taken, and there was no buffer for it")
	default:
	}
	if n, err := far.Read(b[1:]); err != nil || string(b[:n+1]) != "by itself" {
		t.Errorf("%q, %v", b[:n+1], err)
	}
	<-written
}

func TestGatherTellsOfErrors(t *testing.T) {
	near, far := pipe(t)
	buffers := new(gathers)
	g := gather(near, buffers)
	far.Close()
	var err error
	for err == nil {
		_, err = g.Write([]byte("lost"))
	}
	if !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
	if _, err := g.Read(make([]byte, 1)); err == nil {
		t.Error("who reads is not told")
	}
	rest(g)
	if out := buffers.out.Load(); out != 0 {
		t.Errorf("%d buffers are out", out)
	}
}

// rest waits until nothing is held.
func rest(g *gathered) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.running {
		g.changed.Wait()
	}
}

// deafConn takes nothing until it is closed, whatever its deadline.
type deafConn struct {
	net.Conn
	writes, closed chan struct{}
}

func (d *deafConn) Write([]byte) (int, error) {
	close(d.writes)
	<-d.closed
	return 0, net.ErrClosed
}

func (*deafConn) SetWriteDeadline(time.Time) error { return nil }

// TestGatherCloseWaitsForNobody: sandboxes that are revoked have all their connections
// closed, and those that take nothing of what is written to them keep none of the others open.
func TestGatherCloseWaitsForNobody(t *testing.T) {
	near, _ := pipe(t)
	deaf := &deafConn{Conn: near, writes: make(chan struct{}), closed: make(chan struct{})}
	g := gather(deaf, new(gathers))
	g.Write([]byte("never read"))
	<-deaf.writes
	g.Close()
	g.Close()
	if _, err := g.Write([]byte("more")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a Write to a closed connection: %v", err)
	}
	close(deaf.closed) // as its deadline does
	rest(g)
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("it is not closed: %v", err)
	}
}

// TestGatherIsBoundedOnceItIsClosed: whoever ends a connection in another way meanwhile
// takes the bound of its last write not away.
func TestGatherIsBoundedOnceItIsClosed(t *testing.T) {
	near, _ := pipe(t)
	g := gather(near, new(gathers))
	g.Write([]byte("never read"))
	g.Close()
	if err := g.SetWriteDeadline(time.Time{}); err != nil {
		t.Error(err)
	}
	rest(g) // for ever, if it did
}

// What crypto/tls says last has to be written, though it lets nothing follow.
func TestGatherBelowTLS(t *testing.T) {
	authority, err := mint.New()
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := authority.Leaf(t.Context(), "example.com")
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for range 50 {
		raw, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c := tls.Client(gather(raw, new(gathers)), &tls.Config{InsecureSkipVerify: true})
		go func() {
			c.Write([]byte("the last"))
			c.Close()
		}()
		accepted, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(tls.Server(accepted, &tls.Config{Certificates: []tls.Certificate{*leaf}}))
		if err != nil || string(got) != "the last" { // without TLS's own end it is an unexpected one
			t.Errorf("%q, %v", got, err)
		}
		accepted.Close()
	}
}
