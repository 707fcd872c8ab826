package agentapi_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"sallyport/control/api"
	"sallyport/control/controltest"
)

// silent makes a connection from an address as a newcomer and says nothing on it
// but what begins HTTP/2. It is nil if the server does not take it.
func silent(t *testing.T, url, from string) net.Conn {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	dialer := &tls.Dialer{
		NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}},
		Config: &tls.Config{
			InsecureSkipVerify: true, NextProtos: []string{"h2"}, Certificates: []tls.Certificate{controltest.SelfSigned(t, key)},
		},
	}
	conn, err := dialer.DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "https://"))
	if err != nil {
		return nil
	}
	t.Cleanup(func() { conn.Close() })
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00" // with empty SETTINGS
	if _, err := conn.Write([]byte(preface)); err != nil {
		return nil
	}
	if _, err := io.ReadFull(conn, make([]byte, 9)); err != nil { // the server's SETTINGS
		return nil
	}
	return conn
}

// Anonymous clients that hold connections are limited for each address, do not
// keep others out, and are sent away.
func TestNewcomersCannotStay(t *testing.T) {
	t.Parallel()
	team := plane.NewTeam(t)
	c := team.Setup(t, "sk_live_1")
	s := team.Join(t)
	url, _ := replica(t, 8)
	var held []net.Conn
	for range 8 {
		if conn := silent(t, url, "127.0.0.1"); conn != nil {
			held = append(held, conn)
		}
	}
	if len(held) != 4 {
		t.Fatalf("one address holds %d of 8 connections, want half", len(held))
	}
	for range 4 {
		if silent(t, url, "127.0.0.2") == nil {
			t.Fatal("another address is refused")
		}
	}
	// All are taken now: whoever comes waits until they are sent away.
	for _, conn := range held {
		conn.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := io.Copy(io.Discard, conn); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Error("a newcomer stays for a minute")
		}
	}
	s.Move(t, url)
	if _, err := s.Fetch(t.Context(), c.ID, 1, "api.stripe.com"); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	w, _ := watch(t, s)
	w.cancel()
}

// A sandbox's own connection is not a newcomer's.
func TestSandboxesStay(t *testing.T) {
	t.Parallel()
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_1")
	s := team.Join(t)
	w, _ := watch(t, s)
	select {
	case <-time.After(20 * time.Second): // longer than a newcomer may stay
	case <-t.Context().Done():
	}
	team.Must(t, "DELETE", "agents/a/pins/v", nil, nil)
	w.until(func(m *api.WatchResponse) bool { return len(m.GetBindings()) == 0 })
	if _, err := s.Client.Report(t.Context(), connect.NewRequest(&api.ReportRequest{})); err != nil {
		t.Error(err)
	}
}
