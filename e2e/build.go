package e2e

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// builtVar tells a process of a test run that the programs have been built for all.
const builtVar = "SALLYPORT_E2E_BUILT"

// Build makes the programs and the test's own clients for this process and those that
// it starts.
func Build() error {
	if _, err := build(); err != nil {
		return err
	}
	return os.Setenv(builtVar, "1")
}

// build makes the programs and the test's own clients, once for all worlds of a
// test run. The Go build cache makes it quick.
var build = sync.OnceValues(func() (dir string, err error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	dir = filepath.Join(root, ".cache", "e2e")
	if os.Getenv(builtVar) != "" {
		return dir, nil
	}
	programs := []string{"./cmd/sallyport", "./cmd/sallyport-control", "./cmd/sallyport-sidecar"}
	for _, step := range []struct {
		into     string
		cgo      string
		flag     string
		packages []string
	}{
		{"race", "1", "-race", programs},
		// One way to compile for all the rest, so that what they import is compiled once.
		{"shipped", "0", "-trimpath", programs},
		{"clients", "0", "-trimpath", []string{"./e2e/clients/flood", "./e2e/clients/goclient", "./e2e/clients/h3client", "./e2e/clients/oauthclient", "./e2e/clients/wsclient",
			"./e2e/outside/attacker", "./e2e/outside/loader"}},
		{"tools", "0", "-trimpath", []string{"./e2e/search"}},
	} {
		args := []string{"build", step.flag, "-buildvcs=false", "-ldflags=-s -w", "-o", filepath.Join(dir, step.into) + "/"}
		cmd := exec.Command("go", append(args, step.packages...)...)
		cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED="+step.cgo)
		if output, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go %s: %w\n%s", strings.Join(cmd.Args[1:], " "), err, output)
		}
	}
	return dir, nil
})

// install copies what the world's users run to where all of them may read it;
// the checkout is perhaps in a home directory.
func (w *World) install(kind Kind) {
	w.t.Helper()
	built, err := build()
	w.must(err)
	w.must(copyFiles(filepath.Join(w.Dir, "bin"), filepath.Join(built, string(kind))))
	w.must(copyFiles(w.AgentDir(), filepath.Join(built, "clients")))
	w.must(copyFiles(filepath.Join(w.Dir, "tools"), filepath.Join(built, "tools")))
	w.must(copyFiles(w.AgentDir(), filepath.Join(root(w.t), "e2e", "clients")))
	w.must(os.Mkdir(filepath.Join(w.Dir, "home"), 0o700))
}

// InstallNode copies the npm packages to where NODE_PATH of a sandbox leads.
func (w *World) InstallNode() {
	w.t.Helper()
	w.must(os.CopyFS(w.nodeModules(), os.DirFS(filepath.Join(root(w.t), "e2e", "node", "node_modules"))))
}

func (w *World) nodeModules() string { return filepath.Join(w.AgentDir(), "node_modules") }

// copyFiles copies the files of a directory, not those below it.
func copyFiles(to, from string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if !entry.Type().IsRegular() {
			continue
		}
		text, err := os.ReadFile(filepath.Join(from, entry.Name()))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, entry.Name()), text, 0o755); err != nil {
			return err
		}
	}
	return nil
}

var moduleRoot = sync.OnceValues(func() (string, error) {
	output, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(output))), nil
})

func root(t testing.TB) string {
	t.Helper()
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// freePorts gives ports of loopback that nobody listened at a moment ago, below those
// that the kernel chooses from: whoever asks it for one meanwhile gets another.
func freePorts(t testing.TB, n int) []int {
	t.Helper()
	const least, chosen = 16 << 10, 32 << 10 // ip_local_port_range begins there (ip(7))
	var ports []int
	for tries := 0; len(ports) < n; tries++ {
		port := least + rand.IntN(chosen-least)
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil && tries > 100 {
			t.Fatal(err)
		}
		if err == nil {
			defer listener.Close()
			ports = append(ports, port)
		}
	}
	return ports
}
