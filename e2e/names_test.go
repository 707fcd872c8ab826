package e2e_test

import (
	"strings"
	"testing"

	"sallyport/e2e"
)

// TestNames: a sandbox's resolver is the sidecar's, over UDP and TCP.
func TestNames(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	w.CLI("agent", "create", "agent")
	for _, tt := range []struct {
		name    string
		command []string
		some    bool // an answer is wanted
	}{
		{"libc", []string{"getent", "hosts", e2e.EchoHost}, true},
		{"udp", []string{"dig", "+short", "+tries=1", e2e.EchoHost, "A"}, true},
		{"tcp", []string{"dig", "+short", "+tcp", "+tries=1", e2e.EchoHost, "A"}, true},
		{"another server", []string{"dig", "+short", "+tries=1", "@192.0.2.53", e2e.EchoHost, "A"}, true},
		{"HTTPS records lead past us", []string{"dig", "+short", "+tries=1", e2e.EchoHost, "TYPE65"}, false},
		{"a tunnel", []string{"dig", "+short", "+tries=1", e2e.EchoHost, "TXT"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := w.In(t)
			if out := strings.TrimSpace(w.Run("agent", tt.command...)); (out != "") != tt.some {
				t.Errorf("%s printed %q", strings.Join(tt.command, " "), out)
			}
		})
	}
}
