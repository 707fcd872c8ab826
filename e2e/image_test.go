package e2e_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sallyport/e2e"
)

// capabilities are the fewest with which the sandbox image works; images/README.md
// says what each is for.
var capabilities = []string{"SYS_ADMIN", "NET_ADMIN", "SETUID", "SETGID", "SETPCAP"}

// sandbox runs the sandbox image, with what it prints.
func sandbox(t *testing.T, w *e2e.World, podman *e2e.Podman, capabilities []string, command ...string) e2e.Result {
	t.Helper()
	// A directory, since the sidecar unlinks the token's file and a mounted file can't be.
	join := filepath.Join(w.Dir, "join")
	if err := os.MkdirAll(join, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(join, "token"), []byte(w.CLI("sandbox", "create", "--agent", "agent")), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"run", "--pull", "never", "--rm", "--network", "host", "--cap-drop", "all"}
	for _, capability := range capabilities {
		args = append(args, "--cap-add", capability)
	}
	args = append(args, "--volume", join+":/join", "--volume", w.UpstreamCA()+":/upstream-ca.pem:ro",
		"localhost/sallyport-sandbox", "--control", w.SidecarURL, "--join-token-file", "/join/token", "--upstream-ca", "/upstream-ca.pem")
	for _, to := range w.ConnectTo() {
		args = append(args, "--connect-to", to)
	}
	return podman.Try(append(append(args, "--"), command...)...)
}

// TestImages runs the control plane from its image and a sandbox from its, whose
// request arrives with the credential.
func TestImages(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	podman := w.Images()
	w.StopControl()
	if err := os.RemoveAll(w.DataDir()); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(w.DataDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	serve := slices.Replace(w.ServeCommand()[1:], 2, 3, "/var/lib/sallyport") // the data directory, as the container sees it
	podman.Background("control", append([]string{"--network", "host", "--volume", w.DataDir() + ":/var/lib/sallyport",
		"--volume", w.UpstreamCA() + ":" + w.UpstreamCA() + ":ro", "localhost/sallyport-control"}, serve...)...)
	w.AwaitControl()
	w.Pinned("agent", oldKey, "--host", e2e.EchoHost, "--inject", "bearer")

	r := sandbox(t, w, podman, capabilities, "bash", "-c", `tr '\0' ' ' </proc/1/cmdline; id -u; curl -sS https://`+e2e.EchoHost+`/image`)
	if r.Status != 0 || strings.Contains(r.Stdout, oldKey) {
		t.Fatalf("the sandbox ended with status %d:\n%s%s", r.Status, r.Stdout, r.Stderr)
	}
	if got := w.Nginx.Seen("/image")[0].Authorization; got != "Bearer "+oldKey {
		t.Errorf("upstream got %q", got)
	}

	t.Run("sidecar is process 1 of the container", func(t *testing.T) {
		w := w.In(t)
		if got := podman.Do("inspect", "--type", "image", "--format", "{{index .Config.Entrypoint 0}}", "localhost/sallyport-sandbox"); !strings.HasSuffix(got, "/sallyport-sidecar") {
			t.Errorf("the entry point is %s", got)
		}
		if r := sandbox(t, w, podman, capabilities, "sh", "-c", "exit 42"); r.Status != 42 {
			t.Errorf("exit status %d, want the agent's 42\n%s", r.Status, r.Stderr)
		}
	})
	t.Run("no way out but the sidecar", func(t *testing.T) {
		w := w.In(t)
		r := sandbox(t, w, podman, capabilities, "curl", "-sS", "--max-time", "10", w.Server+"/readyz")
		if r.Status == 0 {
			t.Errorf("the agent reached the control plane's loopback listener:\n%s", r.Stdout)
		}
	})
	for i, capability := range capabilities {
		t.Run("needs "+capability, func(t *testing.T) {
			w := w.In(t)
			fewer := slices.Delete(slices.Clone(capabilities), i, i+1)
			r := sandbox(t, w, podman, fewer, "true")
			if r.Status == 0 {
				t.Errorf("it works without %s, which then should not be in the list", capability)
			}
			t.Logf("without it:\n%s", r.Stderr)
		})
	}
}
