package admin_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"sallyport/control"
	"sallyport/control/admin"
)

// listening serves a Server of its own, and gives its address.
func listening(t *testing.T, change func(*admin.Config)) (address string) {
	t.Helper()
	config := plane.Admin.Config
	change(&config)
	s, err := admin.New(config)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l, nil) }()
	t.Cleanup(func() {
		end()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// from connects from an address of this machine.
func from(t *testing.T, source, to string) net.Conn {
	t.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	conn, err := dialer.DialContext(t.Context(), "tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// TestConnectionsAreBounded: whoever connects and says nothing leaves descriptors to the rest
// of the process, and from one address places to others.
func TestConnectionsAreBounded(t *testing.T) {
	address := listening(t, func(c *admin.Config) { c.Connections = 8 })
	answers := func(conn net.Conn) bool {
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
		line, _ := io.ReadAll(io.LimitReader(conn, 12))
		return string(line) == "HTTP/1.1 200"
	}
	held := 0
	for range 12 {
		if answers(from(t, "127.0.0.1", address)) {
			held++
		}
	}
	if held != 4 {
		t.Errorf("one address holds %d of 8 connections, want half", held)
	}
	if !answers(from(t, "127.0.0.2", address)) {
		t.Error("another address is refused")
	}
}

// TestBodiesThatDoNotCome: a request has memory for what it has sent, not for what it may send.
func TestBodiesThatDoNotCome(t *testing.T) {
	const many = 400
	address := listening(t, func(c *admin.Config) { c.Connections = 4 * many })
	team := plane.NewTeam(t)
	viewer := token(t, team, control.RoleViewer)
	memory := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := memory()
	for range many {
		conn := from(t, "127.0.0.1", address)
		io.WriteString(conn, strings.Join([]string{
			"POST " + team.Path("agents/a/explain") + " HTTP/1.1", "Host: x", "Authorization: Bearer " + viewer,
			"Content-Type: application/json", "Content-Length: 100", "Expect: 100-continue", "", "",
		}, "\r\n"))
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		if line, _ := io.ReadAll(io.LimitReader(conn, 12)); string(line) != "HTTP/1.1 100" { // the body is asked for
			t.Fatalf("%q", line)
		}
	}
	if each := (memory() - before) / many; each > 100<<10 {
		t.Errorf("a request whose body does not come has %d KiB", each>>10)
	}
	if r := plane.Do(t, viewer, http.MethodGet, "/v1/info", nil); r.Status != 200 {
		t.Errorf("beside it: %d", r.Status)
	}
}
