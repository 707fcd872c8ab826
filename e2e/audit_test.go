package e2e_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"sallyport/control"
	"sallyport/e2e"
)

// TestAudit: an event for each request, in the database when the sandbox is gone,
// with neither material nor query.
func TestAudit(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	w.Pinned("agent", oldKey, "--host", e2e.EchoHost, "--inject", "bearer")
	w.Run("agent", "curl", "-sS", "-o", "/dev/null", "https://"+e2e.EchoHost+"/injected?q=private-query",
		"https://"+e2e.PublicHost+"/inspected", "https://"+e2e.EchoHost+"/stray?q=vault:agent")

	text := w.CLI("-o", "json", "audit", "list")
	var events []control.Event
	if err := json.Unmarshal([]byte(text), &events); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{oldKey, "private-query", "vault:agent"} {
		if strings.Contains(text, secret) {
			t.Errorf("audit holds %q", secret)
		}
	}
	find := func(path string) control.Event {
		i := slices.IndexFunc(events, func(e control.Event) bool { return e.Kind == "request" && e.Path == path })
		if i < 0 {
			t.Fatalf("there is no event of %s in\n%s", path, text)
		}
		return events[i]
	}
	if e := find("/injected"); e.Decision != "inject" || e.Credential != "agent/agent" || e.Version != 1 || e.Status != 200 ||
		e.Host != e2e.EchoHost || e.Method != "GET" || e.Agent != "agent" || e.Sandbox == "" || e.Lease == "" || e.DurationUS <= 0 {
		t.Errorf("the injected request: %+v", e)
	}
	if e := find("/inspected"); e.Decision != "inspect" || e.Credential != "" || e.Status != 200 {
		t.Errorf("the inspected request: %+v", e)
	}
	if e := find("/stray"); e.Decision != "refuse" || e.Reason != "stray_placeholder" || e.Status != 400 {
		t.Errorf("the refused request: %+v", e)
	}
	if !slices.ContainsFunc(events, func(e control.Event) bool { return e.Kind == "grant" && e.Lease == find("/injected").Lease }) {
		t.Errorf("there is no grant of the lease in\n%s", text)
	}
	acts := []string{"vault.create", "credential.create", "agent.create", "agent.pin"}
	for _, act := range acts {
		if !strings.Contains(text, `"`+act+`"`) {
			t.Errorf("there is no %s in\n%s", act, text)
		}
	}
}

// TestMetrics asks both processes, and Prometheus' own checker what it thinks.
func TestMetrics(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	w.Pinned("agent", oldKey, "--host", e2e.EchoHost, "--inject", "bearer")
	sidecar := w.StartWithMetrics("agent", "bash", "-c", `curl -sS https://`+e2e.EchoHost+`/counted https://`+e2e.PublicHost+`/counted >/dev/null; echo ready; read -r`)
	if line := sidecar.Line(); line != "ready" {
		t.Fatalf("the agent said %q", line)
	}
	for name, url := range map[string]string{"control": w.Metrics, "sidecar": sidecar.Metrics} {
		t.Run(name, func(t *testing.T) {
			response, err := http.Get(url)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			text, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			check := exec.Command("promtool", "check", "metrics")
			check.Stdin = strings.NewReader(string(text))
			if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("promtool check metrics: %v\n%s", err, out)
			}
			own := 0
			for line := range strings.Lines(string(text)) {
				if strings.HasPrefix(line, "sallyport_") {
					own++
				}
				if strings.Contains(line, e2e.EchoHost) || strings.Contains(line, e2e.PublicHost) || strings.Contains(line, oldKey) {
					t.Errorf("a label that grows with use: %s", line)
				}
			}
			if own < 3 {
				t.Errorf("only %d metrics of our own:\n%s", own, text)
			}
		})
	}
	sidecar.Say("")
	if status := sidecar.Wait(); status != 0 {
		t.Errorf("the sandbox ended with status %d", status)
	}
}
