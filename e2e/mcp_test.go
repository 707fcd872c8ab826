package e2e_test

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sallyport/e2e"
)

const (
	mcpHost = "mcp.sallyport.test"
	mcpKey  = "mcp-key-0123456789abcdef"
	// A stream may be silent for longer than any timeout of a request's head.
	silence = 32 * time.Second
	// A message that arrives later than this was held back on the way.
	promptly = 500 * time.Millisecond
)

// TestMCP connects the official SDK's client with its server, which demands the
// bearer. In every exchange the server says the next thing only when the client
// has acknowledged the one before: whatever is held back never ends.
func TestMCP(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	w.InstallNode()
	server := w.StartMCP(mcpHost, mcpKey)
	w.Pinned("agent", mcpKey, "--host", mcpHost, "--inject", "bearer")

	idle := w.Start("agent", "node", w.Client("mcp-client.mjs"), "idle", "https://"+mcpHost+"/mcp")
	idle.Line() // its tools
	quiet := time.Now()

	common := []string{
		"acknowledge count announce break",
		"progress 1", "progress 2", "progress 3", "counted to 3",
		"announcement 1", "announcement 2", "announcement 3", "root file:///e2e",
	}
	for _, tt := range []struct {
		way, path string
		more      []string
	}{
		{"streamable", "/mcp", []string{"missed", "after the end 404"}},
		{"sse", "/sse", nil},
	} {
		t.Run(tt.way, func(t *testing.T) {
			r := w.In(t).TryRun("agent", "node", w.Client("mcp-client.mjs"), tt.way, "https://"+mcpHost+tt.path)
			lines := strings.Split(strings.TrimSpace(r.Stdout), "\n")
			last := len(lines) - 1
			if want := slices.Concat(common, tt.more); r.Status != 0 || !slices.Equal(lines[:last], want) {
				t.Fatalf("exit status %d, the client printed\n%s%s\nwant\n%s", r.Status, r.Stdout, r.Stderr, strings.Join(want, "\n"))
			}
			noSecret(t, r, mcpKey)
			slowest, err := strconv.Atoi(strings.TrimPrefix(lines[last], "slowest "))
			if err != nil || time.Duration(slowest)*time.Millisecond > promptly {
				t.Errorf("the client printed %q: a message was held back", lines[last])
			}
			t.Logf("the slowest message took %d ms", slowest)
		})
	}

	t.Run("silent stream", func(t *testing.T) {
		time.Sleep(time.Until(quiet.Add(silence)))
		for i, want := range []string{"announcement 1", "root file:///e2e"} {
			got := ""
			if i == 0 {
				got = idle.Ask("")
			} else {
				got = idle.Line()
			}
			if got != want {
				t.Errorf("after %s of silence came %q, want %q", silence, got, want)
			}
		}
		idle.Stop()
	})

	requests := make(map[string]int)
	server.Stop()
	for line, ok := server.NextLine(); ok; line, ok = server.NextLine() {
		requests[line]++
	}
	t.Logf("the server saw %v", requests)
	for line, least := range map[string]int{"DELETE /mcp 200": 1, "GET /mcp 200 resumed": 1, "GET /mcp 404": 1, "GET /sse 200": 1, "POST /sse 202": 8} {
		if requests[line] < least {
			t.Errorf("the server saw %d × %s, want at least %d", requests[line], line, least)
		}
	}
	for line := range requests {
		if strings.Contains(line, " 401") {
			t.Errorf("the server saw a request without the bearer: %s", fmt.Sprint(requests))
		}
	}
}

// TestListenerLeaves: a client that leaves a silent stream takes its upstream
// connection with it, in either protocol.
func TestListenerLeaves(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	const host = "events.sallyport.test"
	left := make(chan time.Time, 1)
	w.OriginServer(host, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(rw).Flush()
		<-r.Context().Done()
		left <- time.Now()
	}), "http/1.1")
	w.Pinned("agent", mcpKey, "--host", host, "--inject", "bearer")
	for _, protocol := range []string{"--http1.1", "--http2"} {
		t.Run(protocol, func(t *testing.T) {
			p := w.In(t).Start("agent", "sh", "-c", "curl -sSN --max-time 1 "+protocol+" https://"+host+"/; echo left; read wait")
			if line := p.Line(); line != "left" {
				t.Fatalf("curl said %q", line)
			}
			gone := time.Now()
			select {
			case at := <-left:
				t.Logf("upstream was told after %v", at.Sub(gone))
			case <-time.After(time.Second):
				t.Error("a second later upstream still believes that somebody listens")
			}
		})
	}
}
