package main

import (
	"bufio"
	"net"
	"path/filepath"
	"strings"
	"testing"
)

// TestAuditForward: events leave as syslog, with the first of all; what a flag says wrongly
// is refused before anything is made.
func TestAuditForward(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	target := "syslog+tcp://" + listener.Addr().String()
	p := serve(t, filepath.Join(t.TempDir(), "new"), "--audit-forward", target)
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	text := bufio.NewReader(conn)
	first, err := text.ReadString('}')
	if err != nil || !strings.Contains(first, " <110>1 ") || !strings.Contains(first, ` sallyport - `) || !strings.Contains(first, `"id":1,`) {
		t.Errorf("it sends %s, %v", first, err)
	}
	if _, body := get(t, p.metrics+"/metrics"); !strings.Contains(body, `sallyport_control_audit_forward_lag_events{receiver="`+target+`"}`) {
		t.Error("there is no metric of the lag")
	}
	if said := start(t, filepath.Join(t.TempDir(), "bad"), "--audit-forward", "otlp+https://user:canary@otel.test").fails(t); !strings.Contains(said, "--audit-forward") || strings.Contains(said, "canary") {
		t.Errorf("it says %s", said)
	}
	if said := start(t, filepath.Join(t.TempDir(), "bad"), "--audit-forward", target, "--audit-forward", target).fails(t); !strings.Contains(said, "name") {
		t.Errorf("it says %s", said)
	}
}
