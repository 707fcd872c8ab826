package e2e_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/control"
	"sallyport/e2e"
)

const (
	oldKey = "echo-old-key-0123456789abcdef"
	newKey = "echo-new-key-fedcba9876543210"
)

// pinnedEcho starts an agent that asks echo.example.test again for each line it
// is told, at the path that the line says.
func pinnedEcho(w *e2e.World) *e2e.Program {
	w.Pinned("agent", oldKey, "--host", e2e.EchoHost, "--inject", "bearer")
	agent := w.Start("agent", "bash", "-c",
		`while read -r path; do curl -sS -o /dev/null -w '%{http_code}\n' "https://`+e2e.EchoHost+`$path" || echo failed; done`)
	return agent
}

// TestRotation: when rotate --wait has answered, the next request has the new value.
func TestRotation(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	agent := pinnedEcho(w)
	if got := agent.Ask("/before"); got != "200" {
		t.Fatalf("curl got %s", got)
	}
	var rotation control.Rotation
	answer := w.CLIReading(newKey, "-o", "json", "credential", "rotate", "--vault", "agent", "agent", "--secret-file", "-", "--wait")
	if err := json.Unmarshal([]byte(answer), &rotation); err != nil {
		t.Fatalf("%v in %s", err, answer)
	}
	if rotation.Version != 2 || rotation.Connected != 1 || rotation.Acknowledged != 1 {
		t.Errorf("rotate answered %+v", rotation)
	}
	agent.Ask("/after")
	if got := w.Nginx.Seen("/before")[0].Authorization; got != "Bearer "+oldKey {
		t.Errorf("before, upstream got %q", got)
	}
	if got := w.Nginx.Seen("/after")[0].Authorization; got != "Bearer "+newKey {
		t.Errorf("after, upstream got %q", got)
	}
}

// TestRotationUnderLoad: no rotation fails a request, neither one whose fetch asks for the
// version that is just being replaced nor one that is about to be sent with that.
func TestRotationUnderLoad(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	w.Pinned("agent", oldKey, "--host", e2e.EchoHost, "--inject", "bearer")
	going := w.Client("going")
	if err := os.WriteFile(going, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	agent := w.Start("agent", "bash", "-c", `
		for n in 1 2 3 4; do
			while [ -e '`+going+`' ]; do curl -sS -o /dev/null -w '%{http_code} %header{sallyport-error}\n' 'https://`+e2e.EchoHost+`/[1-50]' || echo failed; done &
		done | sort | uniq -c`)
	w.Nginx.Seen("/50")
	for n := range 30 {
		w.CLIReading(fmt.Sprintf("%s-%d", newKey, n), "credential", "rotate", "--vault", "agent", "agent", "--secret-file", "-")
	}
	if err := os.Remove(going); err != nil {
		t.Fatal(err)
	}
	for line := agent.Line(); line != ""; line, _ = agent.NextLine() {
		if status := strings.Fields(line)[1]; status != "200" {
			t.Errorf("requests beside rotations got %s", line)
		}
	}
}

// TestUnpin and TestSandboxRemoved: injection stops at once.
func TestUnpin(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	agent := pinnedEcho(w)
	agent.Ask("/before")
	w.CLI("agent", "unpin", "agent", "agent")
	// The change is pushed; requests that begin after it arrived have no credential.
	w.Eventually("requests go without the credential", func() bool {
		agent.Ask("/probe")
		seen := w.Nginx.Seen("/probe")
		return seen[len(seen)-1].Authorization == ""
	})
	if got := agent.Ask("/after"); got != "200" {
		t.Errorf("curl got %s", got)
	}
	if got := w.Nginx.Seen("/after")[0].Authorization; got != "" {
		t.Errorf("after unpin, upstream got %q", got)
	}
	w.CLI("agent", "pin", "agent", "agent")
	w.Eventually("requests have the credential again", func() bool {
		agent.Ask("/pinned")
		seen := w.Nginx.Seen("/pinned")
		return seen[len(seen)-1].Authorization == "Bearer "+oldKey
	})
}

func TestSandboxRemoved(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	agent := pinnedEcho(w)
	agent.Ask("/before")
	var sandboxes []control.Sandbox
	if err := json.Unmarshal([]byte(w.CLI("-o", "json", "sandbox", "list")), &sandboxes); err != nil {
		t.Fatal(err)
	}
	if len(sandboxes) != 1 || sandboxes[0].State != control.SandboxEnrolled || !sandboxes[0].Connected {
		t.Fatalf("sandbox list: %+v", sandboxes)
	}
	w.CLI("sandbox", "rm", sandboxes[0].ID)
	w.Eventually("requests go without the credential", func() bool {
		before := len(w.Nginx.SeenSoFar("/probe"))
		agent.Ask("/probe")
		seen := w.Nginx.SeenSoFar("/probe")
		return len(seen) == before || seen[len(seen)-1].Authorization == ""
	})
	agent.Ask("/after")
	for _, seen := range w.Nginx.SeenSoFar("/after") {
		if seen.Authorization != "" {
			t.Errorf("after sandbox rm, upstream got %q", seen.Authorization)
		}
	}
}

// TestControlKilled: the control plane dies as in a power cut and starts again;
// nothing is lost, and a sandbox that ran all the while goes on.
func TestControlKilled(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	agent := pinnedEcho(w)
	agent.Ask("/before")
	for range 2 {
		w.KillControl()
		if got := agent.Ask("/away"); got != "200" {
			t.Errorf("while the control plane was away curl got %s", got)
		}
		w.StartControl()
	}
	if list := w.CLI("credential", "list"); !strings.Contains(list, "agent") {
		t.Errorf("the credential is gone:\n%s", list)
	}
	w.Eventually("the sandbox is connected again", func() bool {
		return strings.Contains(w.CLI("-o", "json", "sandbox", "list"), `"connected": true`)
	})
	w.CLIReading(newKey, "credential", "rotate", "--vault", "agent", "agent", "--secret-file", "-", "--wait")
	agent.Ask("/after")
	if got := w.Nginx.Seen("/after")[0].Authorization; got != "Bearer "+newKey {
		t.Errorf("after the restart, upstream got %q", got)
	}
}

// TestKEK: without the key-encryption key, or with another one, the control plane
// refuses to start and says why.
func TestKEK(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	w.Pinned("agent", oldKey, "--host", e2e.EchoHost, "--inject", "bearer")
	w.StopControl()
	kek := filepath.Join(w.DataDir(), "kek")
	info, err := os.Stat(kek)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 {
		t.Errorf("the key-encryption key has mode %v, want 0600", info.Mode())
	}
	right, err := os.ReadFile(kek)
	if err != nil {
		t.Fatal(err)
	}
	wrong := otherKEK(t)
	for name, change := range map[string]func() error{
		"lost":  func() error { return os.Remove(kek) },
		"wrong": func() error { return os.WriteFile(kek, wrong, 0o600) },
		"cut":   func() error { return os.WriteFile(kek, right[:len(right)/2], 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			if err := change(); err != nil {
				t.Fatal(err)
			}
			r := w.In(t).Serve()
			if r.Status == 0 || !strings.Contains(r.Stderr, "key-encryption key") {
				t.Errorf("status %d:\n%s%s", r.Status, r.Stdout, r.Stderr)
			}
			t.Logf("it says:\n%s", r.Stderr)
		})
	}
	if err := os.WriteFile(kek, right, 0o600); err != nil {
		t.Fatal(err)
	}
	w.StartControl()
	w.Run("agent", "curl", "-sS", "https://"+e2e.EchoHost+"/restored")
	if got := w.Nginx.Seen("/restored")[0].Authorization; got != "Bearer "+oldKey {
		t.Errorf("with its key again, upstream got %q", got)
	}
}

// otherKEK is the key-encryption key of another installation.
func otherKEK(t *testing.T) []byte {
	t.Helper()
	other := e2e.NewWorld(t, e2e.Shipped)
	kek, err := os.ReadFile(filepath.Join(other.DataDir(), "kek"))
	if err != nil {
		t.Fatal(err)
	}
	return kek
}

// TestSecretsAreWriteOnly reads everything there is to read over the API, and
// every file that the control plane wrote.
func TestSecretsAreWriteOnly(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	agent := pinnedEcho(w)
	agent.Ask("/use")
	w.CLIReading(newKey, "credential", "rotate", "--vault", "agent", "agent", "--secret-file", "-", "--wait")
	agent.Ask("/use")

	var all strings.Builder
	for _, path := range []string{
		"/v1/info", "/v1/teams", "/v1/teams/default/vaults", "/v1/teams/default/vaults/agent",
		"/v1/teams/default/vaults/agent/credentials", "/v1/teams/default/vaults/agent/credentials/agent",
		"/v1/teams/default/agents", "/v1/teams/default/agents/agent", "/v1/teams/default/sandboxes",
		"/v1/teams/default/audit", "/v1/tokens", "/v1/services",
	} {
		status, body := w.API(http.MethodGet, path, w.AdminToken())
		if status != http.StatusOK {
			t.Errorf("GET %s: %d %s", path, status, body)
		}
		all.WriteString(body)
	}
	all.WriteString(w.ControlLog())
	agent.Stop()
	w.StopControl()
	err := filepath.WalkDir(w.DataDir(), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		all.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{oldKey, newKey} {
		if strings.Contains(all.String(), secret) {
			t.Errorf("%s can be read back", secret)
		}
	}
	if !strings.Contains(all.String(), e2e.EchoHost) {
		t.Error("the search proves nothing: it does not find the host either")
	}
}

// TestAdminAPI: the description is served, and nothing else without a token.
func TestAdminAPI(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	status, body := w.API(http.MethodGet, "/openapi.json", "")
	var description struct {
		OpenAPI string
		Paths   map[string]any
	}
	if err := json.Unmarshal([]byte(body), &description); err != nil || status != http.StatusOK {
		t.Fatalf("/openapi.json: %d %v", status, err)
	}
	if !strings.HasPrefix(description.OpenAPI, "3.1") || len(description.Paths) < 10 {
		t.Errorf("OpenAPI %q with %d paths", description.OpenAPI, len(description.Paths))
	}
	for _, token := range []string{"", "wrong", w.AdminToken() + "x"} {
		if status, body := w.API(http.MethodGet, "/v1/teams", token); status != http.StatusUnauthorized || !strings.Contains(body, "unauthenticated") {
			t.Errorf("with token %q: %d %s", token, status, body)
		}
	}
	for _, file := range []string{"admin-token", "ca.pem"} {
		info, err := os.Stat(filepath.Join(w.DataDir(), file))
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v; want mode 0600", file, info.Mode(), err)
		}
	}
}

// TestTeamsAreApart: a token of one team opens nothing of another.
func TestTeamsAreApart(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	w.CLI("vault", "create", "mine")
	w.CLI("team", "create", "other")
	w.CLI("--team", "other", "vault", "create", "theirs")
	if list := w.CLI("-o", "json", "--team", "other", "credential", "list"); strings.TrimSpace(list) != "[]" {
		t.Errorf("the other team's credentials: %s", list)
	}
	if r := w.TryCLI(oldKey, "--team", "other", "credential", "add", "--vault", "mine", "--name", "x", "--host", e2e.EchoHost, "--inject", "bearer", "--secret-file", "-"); r.Status == 0 {
		t.Errorf("a vault of another team took a credential")
	}
}
