package gate_test

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// Where all places are taken, a connection that waits for its client goes for a new
// one; one that has something under way does not.
func TestPlacesAreBounded(t *testing.T) {
	w := newWorld(t, 80)
	const most = 4
	w.gate.SetMostPlaces(most)
	open := func(said string) (client *net.TCPConn) {
		t.Helper()
		c, err := net.Dial("tcp", w.address)
		if errors.Is(err, syscall.ECONNRESET) {
			return nil // as soon as it was accepted
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_, _ = io.WriteString(c, said) // whoever reads finds out what became of it
		return c.(*net.TCPConn)
	}
	accept := func() net.Conn {
		t.Helper()
		c, err := w.gate.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	ended := func(c *net.TCPConn) bool {
		t.Helper()
		if c == nil {
			return true
		}
		_, err := c.Read(make([]byte, 1))
		return errors.Is(err, syscall.ECONNRESET)
	}

	silent := open("") // says nothing: it waits to be decided about
	await(t, func() bool { return w.gate.Places() == 1 })
	var busy []net.Conn
	for range most - 1 {
		open("GET / HTTP/1.1\r\n")
		busy = append(busy, accept())
		w.gate.Idle(busy[len(busy)-1], false)
	}
	time.Sleep(1100 * time.Millisecond) // the least that one is idle
	open("GET / HTTP/1.1\r\n")
	busy = append(busy, accept())
	w.gate.Idle(busy[most-1], false)
	if !ended(silent) {
		t.Error("the silent connection was not closed for another")
	}
	time.Sleep(1100 * time.Millisecond)
	if late := open("GET / HTTP/1.1\r\n"); !ended(late) {
		t.Error("one more than there are places was let in")
	}
	if refusal := <-w.refused; refusal.Code != "client_gone" && refusal.Code != "bad_hello" { // the silent one
		t.Errorf("refused with %+v", refusal)
	}
	if refusal := <-w.refused; refusal.Code != "too_many_connections" {
		t.Errorf("refused with %+v", refusal)
	}
	w.gate.Idle(busy[0], true)
	time.Sleep(1100 * time.Millisecond)
	open("GET / HTTP/1.1\r\n")
	accept()
	if _, err := busy[0].Read(make([]byte, 100)); err == nil {
		_, err = busy[0].Read(make([]byte, 100))
		if err == nil {
			t.Error("a connection that was idle again is still open")
		}
	}
	w.gate.CloseFlows()
	await(t, func() bool { return w.gate.Places() == 0 })
}

// Connections that are refused take no more descriptors than they are refused one by
// one: else whoever opens them fast has all there are.
func TestRefusedOneByOne(t *testing.T) {
	w := newWorld(t, 80)
	w.gate.SetMostPlaces(0)
	for range cap(w.refused) {
		w.refused <- nil // so that the next refusal waits
	}
	before := descriptors(t)
	const many = 50
	for range many {
		c, err := net.Dial("tcp", w.address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	time.Sleep(100 * time.Millisecond) // for those that must not be accepted
	if n := descriptors(t) - before - many; n > 1 {
		t.Errorf("%d are accepted that are not refused yet", n)
	}
	for range cap(w.refused) + many {
		<-w.refused
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// await waits until something is so.
func await(t *testing.T, so func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come to be so")
		}
	}
}
