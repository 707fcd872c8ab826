package main

import (
	"net/http"
	"strings"
	"syscall"
	"testing"
)

// page gives the status of a page of the admin listener.
func (p *program) page(t *testing.T, path string) int {
	t.Helper()
	r, err := http.Get(p.admin + path)
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	return r.StatusCode
}

// TestConsole: it is there unless it is left out, and needs to know where it is only
// where nobody can tell.
func TestConsole(t *testing.T) {
	dir := t.TempDir()
	p := serve(t, dir)
	if !strings.Contains(p.stdout.String(), p.admin+"/console/") || p.page(t, "/console/") != 200 || p.page(t, "/") != 200 {
		t.Errorf("/console/: %d, and it says %s", p.page(t, "/console/"), p.stdout)
	}
	p.end(t, syscall.SIGTERM)
	p = serve(t, dir, "--no-console")
	if strings.Contains(p.stdout.String(), "console") || p.page(t, "/console/") != 404 || p.page(t, "/") != 404 || p.page(t, "/console/session") != 404 {
		t.Errorf("--no-console: %d, and it says %s", p.page(t, "/console/"), p.stdout)
	}
	p.end(t, syscall.SIGTERM)
	for _, flags := range [][]string{
		{"--console-url", "http://console.example.com"}, {"--console-url", "https://console.example.com/x"}, {"--console-url", "https://console.example.com", "--no-console"},
	} {
		if said := start(t, dir, flags...).fails(t); !strings.Contains(said, "--console-url") {
			t.Errorf("%q: %s", flags, said)
		}
	}
}
