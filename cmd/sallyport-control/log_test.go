package main

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// alive asks what writes a line of the log at the level debug, and whether it is answered.
func (p *program) alive(t *testing.T, line int) {
	t.Helper()
	client := http.Client{Timeout: patience}
	r, err := http.NewRequest(http.MethodGet, p.admin+"/v1/teams", nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := os.ReadFile(p.dir + "/admin-token")
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	answer, err := client.Do(r)
	if err != nil {
		t.Fatalf("after %d lines that nobody has read: %v", line, err)
	}
	answer.Body.Close()
	if answer.StatusCode >= 500 {
		t.Fatalf("after %d lines that nobody has read: %s", line, answer.Status)
	}
}

// Who reads the log may stop reading, or end: the control plane goes on.
func TestLogStopsNobody(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	size, err := unix.FcntlInt(writer.Fd(), unix.F_SETPIPE_SZ, os.Getpagesize())
	if err != nil {
		t.Fatal(err)
	}
	p := prepare(t, t.TempDir(), "--log-level", "debug")
	p.Stderr = writer
	p.begin(t)
	writer.Close()
	p.ready(t)
	const least = 100 // bytes of a line
	for n := range size/least + 20 {
		p.alive(t, n)
	}
	reader.Close()
	for range 3 {
		p.alive(t, 0)
		time.Sleep(10 * time.Millisecond) // until the line is written
	}
	select {
	case <-p.exited:
		t.Fatalf("it ended with its log: %v", p.ProcessState)
	default:
	}
}
