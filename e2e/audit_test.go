package e2e_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport/control"
	"sallyport/e2e"
)

// asking asks echo.example.test for each path it is told, and says the status and
// the sidecar's error code.
const asking = `while read -r path; do
	curl -sS -o /dev/null -D /tmp/head -w '%{http_code}' "https://` + e2e.EchoHost + `$path" || echo -n failed
	echo " $(sed -n 's/^Sallyport-Error: *\([a-z_]*\).*/\1/Ip' /tmp/head)"
done`

// TestAuditIsDurable: what a sandbox has used is on its disk when nobody could be told,
// and it is cut down.
func TestAuditIsDurable(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	w.Pinned("agent", oldKey, "--host", e2e.EchoHost, "--inject", "bearer")
	w.CLI("team", "set", "--audit", "durable")
	if show := w.CLI("team", "show"); !strings.Contains(show, "durable") {
		t.Errorf("team show says\n%s", show)
	}
	dir := t.TempDir()
	agent := w.StartSidecar("agent", []string{"init", "--audit-dir", dir}, "bash", "-c", asking)
	if got := agent.Ask("/told"); got != "200 " {
		t.Fatalf("curl got %s", got)
	}
	w.KillControl()
	if got := agent.Ask("/untold"); got != "200 " {
		t.Errorf("without the control plane curl got %s", got)
	}
	if err := syscall.Kill(e2e.Parent(agent.Worker()), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	agent.Wait()
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(files) != 1 {
		t.Fatalf("there are %v, %v", files, err)
	}
	left := w.Sidecar("audit-log", files[0])
	if left.Status != 0 || !strings.Contains(left.Stdout, `"/untold"`) || !strings.Contains(left.Stderr, "agent agent") {
		t.Errorf("the file holds, %d\n%s%s", left.Status, left.Stdout, left.Stderr)
	}
	if strings.Contains(left.Stdout, oldKey) {
		t.Error("the file holds the secret")
	}
	w.StartControl()
}

// TestAuditRefuses: where the intent can't be where the team wants it, nothing is
// sent, and the client hears why.
func TestAuditRefuses(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	w.Pinned("agent", oldKey, "--host", e2e.EchoHost, "--inject", "bearer")
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=16k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(filepath.Join(dir, "full"), make([]byte, 12<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	agent := w.StartSidecar("agent", []string{"init", "--audit-dir", dir}, "bash", "-c", asking)
	if got := agent.Ask("/best-effort"); got != "200 " {
		t.Fatalf("curl got %s", got)
	}
	w.CLI("team", "set", "--audit", "durable") // in a sandbox that runs
	var got string
	w.Eventually("a full disk refuses", func() bool { got = agent.Ask("/full"); return got != "200 " })
	if got != "503 audit_log_failed" {
		t.Errorf("with a full disk curl got %s", got)
	}
	if got := agent.Ask("/full-again"); got != "503 audit_log_failed" {
		t.Errorf("with a full disk curl got %s", got)
	}
	w.CLI("team", "set", "--audit", "strict")
	w.Eventually("a strict intent is with the control plane", func() bool { return agent.Ask("/strict") == "200 " })
	if list := w.CLI("audit", "list"); !strings.Contains(list, "intent") {
		t.Errorf("no intent is in\n%s", list)
	}
	w.StopDatabase()
	if got := agent.Ask("/hangs"); got != "503 audit_unacknowledged" {
		t.Errorf("with a database that hangs curl got %s", got)
	}
	if status, body := w.API("GET", "/readyz", ""); status != 503 || !strings.Contains(body, "database") {
		t.Errorf("with a database that hangs readyz is %d %s", status, body)
	}
	w.ContinueDatabase()
	w.Eventually("it goes on", func() bool { return agent.Ask("/again") == "200 " })
	w.KillControl()
	if got := agent.Ask("/away"); got != "503 audit_unacknowledged" {
		t.Errorf("without the control plane curl got %s", got)
	}
	w.StartControl()
	w.Eventually("it goes on", func() bool { return agent.Ask("/back") == "200 " })
	for _, path := range []string{"/full-again", "/hangs", "/away"} {
		w.Nginx.SeenNone(path)
	}
}

// TestAuditLogIsOutOfReach: an agent can neither see nor change where intents are
// kept, by any path, descriptor or mount.
func TestAuditLogIsOutOfReach(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	w.Pinned("agent", oldKey, "--host", e2e.EchoHost, "--inject", "bearer")
	w.CLI("team", "set", "--audit", "durable")
	dir, err := os.MkdirTemp("/var/lib", "sallyport-audit-test-") // which the agent sees, unlike /tmp
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil { // at its easiest
		t.Fatal(err)
	}
	agent := w.StartSidecar("agent", []string{"init", "--audit-dir", dir}, "bash", "-c", `
		dir=$1
		umount -l "$dir" 2>/dev/null; umount "$dir" 2>/dev/null
		ls -A "$dir"
		echo forged 2>/dev/null >"$dir/forged.log" && echo "wrote into it"
		mv "$dir" "$dir.moved" 2>/dev/null && echo "moved it"
		rm -rf "$dir" 2>/dev/null && echo "removed it"
		mkdir -p /tmp/under && mount --bind /var/lib /tmp/under 2>/dev/null && ls -A "/tmp/under/${dir##*/}"
		unshare -Urm sh -c "umount -l '$dir'; ls -A '$dir'" 2>/dev/null
		for fd in /proc/[0-9]*/fd/*; do
			case $(readlink "$fd" 2>/dev/null) in *"${dir##*/}"*|*memfd:sallyport*) echo "holds $fd";; esac
		done
		find / -xdev -name '*.log' -path "*${dir##*/}*" 2>/dev/null
		echo tried
		`+asking, "bash", dir)
	for line := agent.Line(); line != "tried"; line = agent.Line() {
		t.Errorf("the agent: %s", line)
	}
	if got := agent.Ask("/used"); got != "200 " {
		t.Errorf("curl got %s", got)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 || files[0].Name() == "forged.log" {
		t.Errorf("the directory holds %v, %v", files, err)
	}
	agent.Stop()
	if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
		t.Errorf("when all was reported it holds %v, %v", files, err)
	}
}

// TestAuditTail: who follows the events gets each once and in order, through a kill of
// the control plane.
func TestAuditTail(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	w.Pinned("agent", oldKey, "--host", e2e.EchoHost, "--inject", "bearer")
	agent := w.StartSidecar("agent", []string{"init"}, "bash", "-c", asking)
	tail := w.StartCLI("-o", "json", "audit", "tail", "-f", "--since", "1h")
	var last int64
	until := func(path string) {
		t.Helper()
		for {
			var e control.Event
			if line := tail.Line(); json.Unmarshal([]byte(line), &e) != nil || e.ID != last+1 {
				t.Fatalf("after event %d it said %s", last, line)
			}
			last = e.ID
			if e.Path == path {
				return
			}
		}
	}
	agent.Ask("/first")
	until("/first")
	w.KillControl()
	agent.Ask("/away")
	w.StartControl()
	agent.Ask("/back")
	until("/back")
	if out := w.CLI("audit", "verify"); !strings.Contains(out, "as they were written") {
		t.Errorf("verify says %s", out)
	}
}
