package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The database moves from one key-encryption key to another, and needs the old one no more.
func TestMoveToAnotherKEK(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	next := filepath.Join(t.TempDir(), "next")
	if err := os.WriteFile(next, bytes.Repeat([]byte("k"), 32), 0o600); err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(dir, "kek")
	p := serve(t, dir)
	steps := []struct{ path, body string }{{"", `{"name":"v"}`}, {"/v/credentials", `{"name":"stripe","service":"stripe","secret":"sk_live_1"}`}}
	for _, step := range steps {
		if status, body := p.call(t, "POST", "/v1/teams/default/vaults"+step.path, step.body); status != 201 {
			t.Fatalf("%d %s", status, body)
		}
	}
	p.end(t, syscall.SIGTERM)

	if said := start(t, dir, "--kek", next).fails(t); !strings.Contains(said, "--kek-other") {
		t.Errorf("without the old key: %s", said)
	}
	p = serve(t, dir, "--kek", "file:"+next, "--kek-other", old)
	if status, body := p.call(t, "POST", "/v1/keys/rotate", `{}`); status != 202 {
		t.Fatalf("rotate: %d %s", status, body)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		status, body := p.call(t, "GET", "/v1/keys", "")
		if status == 200 && strings.Contains(body, `"finished_at"`) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("it does not end: %d %s%s", status, body, p.stderr)
		}
	}
	p.end(t, syscall.SIGTERM)

	if said := start(t, dir, "--kek", old).fails(t); !strings.Contains(said, "is not the one this database was sealed with") {
		t.Errorf("with the old key alone: %s", said)
	}
	if err := os.Remove(old); err != nil {
		t.Fatal(err)
	}
	p = serve(t, dir, "--kek", next)
	if status, body := p.call(t, "POST", "/v1/teams/default/vaults/v/credentials/stripe/rotate", `{"secret":"sk_live_2"}`); status != 200 {
		t.Errorf("the data key: %d %s", status, body)
	}
}
