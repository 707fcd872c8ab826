package e2e_test

import (
	"strings"
	"testing"

	"sallyport/e2e"
)

// telling asks echo.example.test for each path it is told, and says the status, and of
// what the sidecar answered the code and the message.
const telling = `while read -r path; do
	curl -sS -o /tmp/body -D /tmp/head -w '%{http_code}' "https://` + e2e.EchoHost + `$path" || echo -n failed
	if grep -qi '^Sallyport-Error:' /tmp/head; then echo " $(tr -d '\n' </tmp/body)"; else echo " "; fi
done`

// TestEventsQuota: where the control plane takes no more events of a team, none of its
// credentials is used without a record: at once where an intent has to be with it, and
// where one has to be on the disk once that has as much as it may. The client hears why,
// another team goes on, and so does this one when there is room.
func TestEventsQuota(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	w.Pinned("agent", oldKey, "--host", e2e.EchoHost, "--inject", "bearer")
	other := w.Team("other")
	other.Pinned("agent", newKey, "--host", e2e.EchoHost, "--inject", "bearer")
	for _, team := range []*e2e.World{w, other} {
		team.CLI("team", "set", "--audit", "strict")
	}
	agent := w.StartSidecar("agent", []string{"init", "--audit-dir", t.TempDir()}, "bash", "-c", telling)
	neighbour := other.StartSidecar("agent", []string{"init"}, "bash", "-c", telling)
	if got, beside := agent.Ask("/before"), neighbour.Ask("/before"); got != "200 " || beside != "200 " {
		t.Fatalf("curl got %s and %s", got, beside)
	}
	refused := func(got, code string) {
		t.Helper()
		if !strings.HasPrefix(got, "503 ") || !strings.Contains(got, code) || !strings.Contains(got, "sallyport quota set --events") {
			t.Errorf("past the quota curl got %s, not %s and why", got, code)
		}
	}

	w.CLI("quota", "set", "--events", "1")
	refused(agent.Ask("/strict-1"), "audit_unacknowledged")
	if got := neighbour.Ask("/beside-strict"); got != "200 " {
		t.Errorf("in another team curl got %s", got)
	}
	w.CLI("quota", "set", "--events=-1")
	w.Eventually("it goes on", func() bool { return agent.Ask("/strict-again") == "200 " })

	w.CLI("team", "set", "--audit", "durable")
	full := w.StartSidecar("agent", []string{"init", "--audit-dir", t.TempDir()}, "bash", "-c", `read -r first
		curl -sS -o /dev/null -w '%{http_code}\n' "https://`+e2e.EchoHost+`$first"
		read -r many
		curl -sS --parallel --parallel-max 100 -o /dev/null -w '%{http_code}\n' "https://`+e2e.EchoHost+`$many" | sort | uniq -c | tr -s '\n ' ' '; echo
		`+telling)
	if got := full.Ask("/lease"); got != "200" {
		t.Fatalf("curl got %s", got)
	}
	w.CLI("quota", "set", "--events", "1")
	// As many as there are places for, and some more.
	if got := full.Ask("/many/[1-10050]"); !strings.Contains(got, " 200 ") && !strings.HasSuffix(got, " 200") || !strings.Contains(got, " 503") {
		t.Errorf("past the quota a flood got %s", got)
	}
	refused(full.Ask("/durable"), "audit_full")
	if got := neighbour.Ask("/beside-durable"); got != "200 " {
		t.Errorf("in another team curl got %s", got)
	}
	w.Nginx.SeenNone("/durable")
	w.CLI("quota", "set", "--events=-1")
	w.Eventually("it goes on", func() bool { return full.Ask("/durable-again") == "200 " })
	w.Nginx.SeenNone("/strict-1")
	if out := w.CLI("audit", "verify"); !strings.Contains(out, "as they were written") {
		t.Errorf("verify says %s", out)
	}
}
