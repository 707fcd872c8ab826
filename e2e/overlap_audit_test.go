package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/e2e"
)

// TestOverlapIsIntended: of a request that is sent again with the version before, each
// sending is where the team wants its intent, with its version, before it goes out.
func TestOverlapIsIntended(t *testing.T) {
	const host = "intended.example.test"
	w := e2e.NewWorld(t, e2e.Shipped)
	dir := t.TempDir()
	// intended reports whether it is known that path is sent with a version.
	intended := func(path, version string) bool {
		var lines string
		if strings.HasPrefix(path, "/durable") {
			files, _ := filepath.Glob(filepath.Join(dir, "*.log"))
			for _, file := range files {
				lines += w.Sidecar("audit-log", file).Stdout
			}
		} else {
			lines = w.TryCLI("", "audit", "export").Stdout
		}
		for line := range strings.Lines(lines) {
			var e struct {
				Path, Reason string
				Version      json.Number // which the log quotes
			}
			if json.Unmarshal([]byte(line), &e) == nil && e.Path == path && e.Version.String() == version && (strings.HasPrefix(path, "/durable") || e.Reason == "intent") {
				return true
			}
		}
		return false
	}
	known := make(chan string, 16)
	w.OriginServer(host, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		version := map[string]string{"Bearer " + oldKey: "1", "Bearer " + newKey: "2"}[r.Header.Get("Authorization")]
		known <- fmt.Sprintf("version %s: %t", version, intended(r.URL.Path, version))
		if version != "1" {
			rw.WriteHeader(http.StatusUnauthorized)
		}
	}), "http/1.1")
	w.Pinned("intended", oldKey, "--host", host, "--inject", "bearer")
	w.CLI("team", "set", "--audit", "strict")
	agent := w.StartSidecar("intended", []string{"init", "--audit-dir", dir}, "bash", "-c",
		`while read -r path; do curl -sS -o /dev/null -w '%{http_code}\n' "https://`+host+`$path" || echo failed; done`)
	w.CLIReading(newKey, "credential", "rotate", "--vault", "intended", "intended", "--secret-file", "-", "--wait", "--overlap", "10m")
	sent := func(path string) {
		t.Helper()
		if got := agent.Ask(path); got != "200" {
			t.Errorf("%s: curl got %s", path, got)
		}
		for _, want := range []string{"version 2: true", "version 1: true"} {
			if got := <-known; got != want {
				t.Errorf("%s: %s; want %s", path, got, want)
			}
		}
	}
	sent("/strict")
	w.CLI("team", "set", "--audit", "durable")
	w.Eventually("the intent is on the disk", func() bool {
		agent.Ask("/durable-yet")
		first, second := <-known, <-known
		return strings.HasSuffix(first, "true") && strings.HasSuffix(second, "true")
	})
	sent("/durable")
}
