package gate_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/sidecar/gate"
)

// upstreamOf starts a server that act plays for each of its connections.
func upstreamOf(t *testing.T, act func(*net.TCPConn)) string {
	t.Helper()
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := listener.AcceptTCP()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				act(c)
			}()
		}
	}()
	t.Cleanup(func() { listener.Close(); <-done })
	return listener.Addr().String()
}

func echo(c *net.TCPConn) { io.Copy(c, c) }

func through(*gate.Flow) gate.Verdict {
	return gate.Verdict{Route: &gate.Route{Host: "pinned.example.com", Port: 443}}
}

// TestPassedThroughUntouched: the server sees what the client sent, from the
// first byte to the last, and the other way around, however it ends.
func TestPassedThroughUntouched(t *testing.T) {
	w := newWorld(t, 443)
	w.set(func() { w.decide, w.upstream = through, upstreamOf(t, echo) })
	c := w.dial(t).(*net.TCPConn)
	sent := append(captureHello(), make([]byte, 4<<20)...)
	rand.Read(sent[len(sent)-4<<20:])
	go func() {
		c.Write(sent)
		c.CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("read %d bytes, %v; sent %d", len(got), err, len(sent))
	}
	p := <-w.through
	if p.Sent != uint64(len(sent)) || p.Received != uint64(len(sent)) || p.Reason != "" || p.Route.Host != "pinned.example.com" || p.Duration <= 0 {
		t.Errorf("told of %+v", p)
	}
	w.none(t)
}

// none fails when a flow is left open.
func (w *world) none(t *testing.T) {
	t.Helper()
	for range 200 {
		if w.gate.Open() == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d flows are open", w.gate.Open())
}

// TestHalfClose: a server may go on when the client has said all, and a client
// when the server has.
func TestHalfClose(t *testing.T) {
	w := newWorld(t, 443)
	w.set(func() { w.decide = through })
	upstream := upstreamOf(t, func(c *net.TCPConn) {
		io.WriteString(c, "bye\n")
		c.CloseWrite()
		io.Copy(io.Discard, c)
	})
	w.set(func() { w.upstream = upstream })
	c := w.dial(t).(*net.TCPConn)
	io.WriteString(c, "hello\n")
	if got, err := io.ReadAll(c); err != nil || string(got) != "bye\n" {
		t.Fatalf("read %q, %v", got, err)
	}
	io.WriteString(c, "and more\n")
	c.CloseWrite()
	if p := <-w.through; p.Sent != uint64(len("hello\nand more\n")) || p.Reason != "" {
		t.Errorf("told of %+v", p)
	}
}

// TestServerSpeaksFirst: where the route is known before the client speaks, a
// greeting comes without it; a client that speaks is looked at all the same.
func TestServerSpeaksFirst(t *testing.T) {
	greet := func(c *net.TCPConn) {
		io.WriteString(c, "220 ready\r\n")
		io.Copy(c, c)
	}
	t.Run("it does", func(t *testing.T) {
		w := newWorld(t, 25)
		w.set(func() { w.admit, w.decide, w.upstream = through, refusePort, upstreamOf(t, greet) })
		c := w.dial(t)
		got := make([]byte, 11)
		if _, err := io.ReadFull(c, got); err != nil || string(got) != "220 ready\r\n" {
			t.Fatalf("read %q, %v", got, err)
		}
		exchange(t, c)
	})
	t.Run("a client that only listens", func(t *testing.T) {
		w := newWorld(t, 25)
		w.set(func() { w.admit, w.decide = through, refusePort })
		w.set(func() {
			w.upstream = upstreamOf(t, func(c *net.TCPConn) { time.Sleep(50 * time.Millisecond); greet(c) })
		})
		c := w.dial(t).(*net.TCPConn)
		c.CloseWrite()
		if got, err := io.ReadAll(c); err != nil || string(got) != "220 ready\r\n" {
			t.Fatalf("read %q, %v", got, err)
		}
	})
	t.Run("the client does", func(t *testing.T) {
		w := newWorld(t, 25)
		w.set(func() { w.admit, w.upstream = through, upstreamOf(t, echo) })
		w.set(func() {
			w.decide = func(f *gate.Flow) gate.Verdict {
				if f.SNI == "denied.example.com" {
					return refusePort(f)
				}
				return through(f)
			}
		})
		exchange(t, w.dial(t))
		c := tls.Client(w.dial(t), &tls.Config{ServerName: "denied.example.com"})
		if err := c.Handshake(); err == nil {
			t.Error("what the hello says was not looked at")
		}
		if refusal := <-w.refused; refusal.Code != "port" {
			t.Errorf("refused as %+v", refusal)
		}
	})
	t.Run("the server is gone", func(t *testing.T) {
		w := newWorld(t, 25)
		w.set(func() { w.admit, w.upstream = through, "127.0.0.1:1" })
		c, err := net.Dial("tcp", w.address)
		if err == nil { // the reset may already meet the dial
			defer c.Close()
			_, err = io.ReadAll(c)
		}
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the client saw %v, want a reset", err)
		}
		if refusal := <-w.refused; refusal.Code != "upstream_unreachable" {
			t.Errorf("refused as %+v", refusal)
		}
	})
}

// TestReviewCutsOff what may not go on, and nothing else.
func TestReviewCutsOff(t *testing.T) {
	w := newWorld(t, 443)
	w.set(func() { w.upstream = upstreamOf(t, echo) })
	w.set(func() {
		w.decide = func(f *gate.Flow) gate.Verdict {
			return gate.Verdict{Route: &gate.Route{Host: f.Client.String(), Port: 443}}
		}
	})
	one, other := w.dial(t), w.dial(t)
	exchange(t, one)
	exchange(t, other)
	w.set(func() {
		w.still = func(_ *gate.Flow, r gate.Route) bool { return r.Host == other.LocalAddr().String() }
	})
	w.gate.Review()
	if _, err := io.ReadAll(one); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client saw %v, want a reset", err)
	}
	if p := <-w.through; p.Reason != "policy_changed" || p.Route.Host != one.LocalAddr().String() {
		t.Errorf("told of %+v", p)
	}
	exchange(t, other)
}

// TestChangeWhileDeciding: a flow that was let through by what is not so any more
// does not get through.
func TestChangeWhileDeciding(t *testing.T) {
	w := newWorld(t, 443)
	w.set(func() { w.upstream, w.decide = upstreamOf(t, echo), through })
	w.set(func() { w.still = func(*gate.Flow, gate.Route) bool { return false } })
	c := w.dial(t)
	io.WriteString(c, "hello\n")
	if got, err := io.ReadAll(c); err == nil || len(got) > 0 {
		t.Errorf("read %q, %v", got, err)
	}
}

// TestNothingPassesUnasked: not a byte goes on before Passing has let the flow
// pass, and a flow may be cut off while it is asked.
func TestNothingPassesUnasked(t *testing.T) {
	w := newWorld(t, 443)
	reached := make(chan string, 10)
	w.set(func() {
		w.upstream = upstreamOf(t, func(c *net.TCPConn) { b, _ := io.ReadAll(c); reached <- string(b) })
		w.decide = through
		w.passing = func(context.Context) *gate.Refusal { return &gate.Refusal{Code: "audit_full"} }
	})
	attempt := func(code string) {
		t.Helper()
		c := w.dial(t)
		io.WriteString(c, "hello\n")
		if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the client saw %v, want a reset", err)
		}
		if refusal := <-w.refused; refusal.Code != code {
			t.Errorf("refused as %+v, want %s", refusal, code)
		}
		if got := <-reached; got != "" {
			t.Errorf("the server got %q", got)
		}
	}
	attempt("audit_full")
	w.set(func() {
		w.passing = func(ctx context.Context) *gate.Refusal {
			w.set(func() { w.still = func(*gate.Flow, gate.Route) bool { return false } })
			go w.gate.Review()
			<-ctx.Done()
			return &gate.Refusal{Code: "audit_full"}
		}
	})
	attempt("policy_changed")
	if len(w.through) > 0 {
		t.Errorf("told of %+v", <-w.through)
	}
	w.none(t)
}

// TestFlowsAreBounded: beyond the bound nothing is dialled; a flow that ends, or
// that is handed over after all, makes room.
func TestFlowsAreBounded(t *testing.T) {
	w := newWorld(t, 443)
	w.set(func() { w.upstream, w.decide = upstreamOf(t, echo), through })
	w.gate.SetMost(3)
	for range 3 {
		var open []net.Conn
		for range 3 {
			c := w.dial(t)
			exchange(t, c)
			open = append(open, c)
		}
		c := w.dial(t)
		c.SetDeadline(time.Now().Add(5 * time.Second))
		io.WriteString(c, "hello\n")
		if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the client saw %v, want a reset", err)
		}
		if refusal := <-w.refused; refusal.Code != "too_many_flows" || !strings.Contains(refusal.Hint, "3 connections") {
			t.Errorf("refused as %+v", refusal)
		}
		for _, c := range open {
			c.Close()
			<-w.through
		}
	}
	w.set(func() { w.admit, w.upstream = through, "127.0.0.1:1" })
	for range 5 { // none of which is connected
		c, err := net.Dial("tcp", w.address)
		if err == nil { // the reset may already meet the dial
			c.Close()
		}
		if refusal := <-w.refused; refusal.Code != "upstream_unreachable" {
			t.Errorf("refused as %+v", refusal)
		}
	}
	w.set(func() { w.decide, w.upstream = refusePort, upstreamOf(t, echo) })
	for range 5 { // each is connected, and then refused
		io.WriteString(w.dial(t), "hello\n")
		if refusal := <-w.refused; refusal.Code != "port" {
			t.Errorf("refused as %+v", refusal)
		}
	}
}

// TestIdleFlowEnds, in its own time.
func TestIdleFlowEnds(t *testing.T) {
	w := newWorld(t, 443)
	w.set(func() { w.upstream, w.decide = upstreamOf(t, echo), through })
	w.gate.SetIdle(200 * time.Millisecond)
	c := w.dial(t)
	start := time.Now()
	for range 5 { // longer than that in all
		exchange(t, c)
		time.Sleep(80 * time.Millisecond)
	}
	io.ReadAll(c)
	if took := time.Since(start); took < 550*time.Millisecond {
		t.Errorf("it ended after %s", took)
	}
	if p := <-w.through; p.Reason != "idle" {
		t.Errorf("told of %+v", p)
	}
}

// TestSpliced: the kernel moves the bytes, this process does not read them. Its
// own client and server are counted by themselves.
func TestSpliced(t *testing.T) {
	const size = 64 << 20
	w := newWorld(t, 443)
	w.set(func() { w.decide = through })
	w.set(func() { w.upstream = upstreamOf(t, func(c *net.TCPConn) { io.Copy(io.Discard, c) }) })
	zero, err := os.Open("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	defer zero.Close()
	c := w.dial(t).(*net.TCPConn)
	before := readByCalls(t)
	if _, err := io.Copy(c, io.LimitReader(zero, size)); err != nil {
		t.Fatal(err)
	}
	c.CloseWrite()
	if p := <-w.through; p.Sent != size {
		t.Errorf("told of %+v", p)
	}
	// The client reads /dev/zero once and the server what arrives: a gate that
	// copied would make it three times.
	if read := readByCalls(t) - before; read > size*5/2 {
		t.Errorf("%d MiB were read for %d MiB passed through", read>>20, size>>20)
	}
}

// readByCalls is what this process has read by read(2) and its like, which
// splice(2) is not counted among.
func readByCalls(t *testing.T) (n int64) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(strings.TrimSpace(string(text)), "rchar: %d", &n); err != nil {
		t.Fatal(err)
	}
	return n
}
