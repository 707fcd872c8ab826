package gate_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"sallyport/sidecar/gate"
)

// handedOver gives the client's end of a connection and the gate's, from which its first
// bytes were read.
func (w *world) handedOver(t *testing.T) (outer, held net.Conn) {
	t.Helper()
	outer = w.dial(t)
	io.WriteString(outer, "x")
	held, err := w.gate.Accept()
	if err != nil {
		t.Fatal(err)
	}
	io.ReadFull(held, make([]byte, 1))
	return outer, held
}

// TestEnter: what comes out of a connection that was handed over is looked at as
// if it had come in by itself.
func TestEnter(t *testing.T) {
	w := newWorld(t, 443)
	w.set(func() { w.upstream = upstreamOf(t, echo) })
	outer, held := w.handedOver(t)
	flows := w.accept(t)
	entered := make(chan struct{})
	go func() {
		defer close(entered)
		w.gate.Enter(t.Context(), held, &gate.Flow{Connect: "api.example.com", Accepted: time.Now()})
	}()
	exchange(t, tls.Client(outer, &tls.Config{RootCAs: w.roots, ServerName: "api.example.com"}))
	<-entered
	if f := <-flows; f.Connect != "api.example.com" || f.Name != "api.example.com" {
		t.Errorf("flow %+v", f)
	}
	outer.Close()
	w.none(t)
}

// TestEnterPassesThrough, and is cut off as others are.
func TestEnterPassesThrough(t *testing.T) {
	w := newWorld(t, 443)
	w.set(func() { w.upstream = upstreamOf(t, echo) })
	outer, held := w.handedOver(t)
	w.set(func() { w.decide = through })
	entered := make(chan struct{})
	go func() {
		defer close(entered)
		w.gate.Enter(t.Context(), held, &gate.Flow{Connect: "pinned.example.com", Accepted: time.Now()})
	}()
	exchange(t, outer)
	w.set(func() { w.still = func(*gate.Flow, gate.Route) bool { return false } })
	w.gate.Review()
	<-entered
	if _, err := io.ReadAll(outer); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client saw %v, want a reset", err)
	}
	w.none(t)
}
