package e2e_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sallyport/e2e"
)

// bareProcess is one in a network namespace with nothing in it, as a container
// runtime starts a container that is to have no network.
func bareProcess(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("sleep", "infinity")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd.Process.Pid
}

// attachArgs is the command line of attach with a join token of its own.
func attachArgs(t *testing.T, w *e2e.World, more ...string) []string {
	t.Helper()
	token := filepath.Join(t.TempDir(), "join-token")
	if err := os.WriteFile(token, []byte(w.CLI("sandbox", "create", "--agent", "agent")), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"attach", "--control", w.SidecarURL, "--join-token-file", token, "--upstream-ca", w.UpstreamCA()}
	for _, to := range w.ConnectTo() {
		args = append(args, "--connect-to", to)
	}
	return append(args, more...)
}

// TestAttach serves a namespace that somebody else made: to a command of ours in
// it, and to whoever is in there already.
func TestAttach(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	w.Pinned("agent", oldKey, "--host", e2e.EchoHost, "--inject", "bearer")

	t.Run("with a command", func(t *testing.T) {
		w := w.In(t)
		pid := bareProcess(t)
		args := attachArgs(t, w, "--netns", fmt.Sprintf("/proc/%d/ns/net", pid), "--", "curl", "-sS", "https://"+e2e.EchoHost+"/command")
		if r := w.Sidecar(args...); r.Status != 0 || strings.Contains(r.Stdout, oldKey) {
			t.Fatalf("exit status %d:\n%s%s", r.Status, r.Stdout, r.Stderr)
		}
		if got := w.Nginx.Seen("/command")[0].Authorization; got != "Bearer "+oldKey {
			t.Errorf("upstream got %q", got)
		}
	})
	t.Run("without", func(t *testing.T) {
		w := w.In(t)
		pid := bareProcess(t)
		ca := filepath.Join(t.TempDir(), "ca.pem")
		sidecar := exec.Command(w.Program("sallyport-sidecar"), attachArgs(t, w, "--pid", fmt.Sprint(pid), "--ca-out", ca)...)
		stderr, err := sidecar.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := sidecar.Start(); err != nil {
			t.Fatal(err)
		}
		defer sidecar.Process.Kill()
		var said strings.Builder
		lines := bufio.NewScanner(stderr)
		for !strings.Contains(said.String(), "sandbox served") && lines.Scan() {
			said.WriteString(lines.Text() + "\n")
		}
		// The machine's resolver configuration names somebody else's server, whose
		// questions arrive at the sidecar all the same.
		inside := exec.Command("nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", pid), "curl", "-sS", "--cacert", ca, "https://"+e2e.EchoHost+"/attached")
		if out, err := inside.CombinedOutput(); err != nil || strings.Contains(string(out), oldKey) {
			t.Fatalf("%v: %s\n%s", err, out, &said)
		}
		if got := w.Nginx.Seen("/attached")[0].Authorization; got != "Bearer "+oldKey {
			t.Errorf("upstream got %q", got)
		}
		if err := sidecar.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
			said.WriteString(lines.Text() + "\n")
		}
		if err := sidecar.Wait(); err != nil || strings.Contains(said.String(), "DATA RACE") {
			t.Errorf("%v\n%s", err, &said)
		}
		links, err := exec.Command("nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", pid), "ip", "-o", "link").Output()
		if err != nil || strings.Count(string(links), "\n") != 1 {
			t.Errorf("the namespace was left with\n%s%v", links, err)
		}
	})
}

// TestDoctor: this machine allows everything the other tests need.
func TestDoctor(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	if r := w.Sidecar("doctor"); r.Status != 0 || !strings.HasSuffix(r.Stdout, "mode: root\n") || strings.Contains(r.Stdout, "missing") {
		t.Errorf("exit status %d:\n%s%s", r.Status, r.Stdout, r.Stderr)
	}
	if r := w.AsOrdinaryUser().Sidecar("doctor"); r.Status != 0 || !strings.Contains(r.Stdout, "mode: rootless") {
		t.Errorf("rootless: exit status %d:\n%s%s", r.Status, r.Stdout, r.Stderr)
	}
}
