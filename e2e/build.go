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

// compiled is a folder of programs and the way they are compiled.
type compiled struct {
	into, cgo, flag string
	packages        []string
}

var (
	programs = []string{"./cmd/sallyport", "./cmd/sallyport-control", "./cmd/sallyport-sidecar"}
	shipped  = compiled{string(Shipped), "0", "-trimpath", programs}
	// One way to compile for all the rest, so that what they import is compiled once.
	others = []compiled{
		{"clients", "0", "-trimpath", []string{"./e2e/clients/flood", "./e2e/clients/goclient", "./e2e/clients/h3client", "./e2e/clients/oauthclient", "./e2e/clients/wsclient",
			"./e2e/outside/attacker", "./e2e/outside/loader"}},
		{"tools", "0", "-trimpath", []string{"./e2e/search"}},
	}
)

// build makes the programs and the test's own clients, once for all worlds of a
// test run. The Go build cache makes it quick.
var build = sync.OnceValues(func() (dir string, err error) {
	for _, c := range append([]compiled{{string(Race), "1", "-race", programs}, shipped}, others...) {
		folder, err := c.make()
		if err != nil {
			return "", err
		}
		dir = filepath.Dir(folder)
	}
	return dir, nil
})

// ShippedPrograms makes the three programs as make build does, and gives their folder.
func ShippedPrograms() (dir string, err error) { return shipped.make() }

// make compiles and gives the folder. What is there and as it should be is left alone.
func (c compiled) make() (folder string, err error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	folder = filepath.Join(root, ".cache", "e2e", c.into)
	if os.Getenv(builtVar) != "" {
		return folder, nil
	}
	args := []string{"build", c.flag, "-buildvcs=false", "-ldflags=-s -w", "-o", folder + "/"}
	cmd := exec.Command("go", append(args, c.packages...)...)
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED="+c.cgo)
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(cmd.Args[1:], " "), err, output)
	}
	return folder, nil
}

// install puts what the world's users run where all of them may read it; the checkout is
// perhaps in a home directory.
func (w *World) install(kind Kind) {
	w.t.Helper()
	built, err := build()
	w.must(err)
	w.must(placeFiles(filepath.Join(w.Dir, "bin"), filepath.Join(built, string(kind)), linkFile))
	w.must(placeFiles(w.AgentDir(), filepath.Join(built, "clients"), linkFile))
	w.must(placeFiles(filepath.Join(w.Dir, "tools"), filepath.Join(built, "tools"), linkFile))
	w.must(placeFiles(w.AgentDir(), filepath.Join(root(w.t), "e2e", "clients"), copyFile))
	w.must(os.Mkdir(filepath.Join(w.Dir, "home"), 0o700))
}

// InstallNode copies the npm packages to where NODE_PATH of a sandbox leads.
func (w *World) InstallNode() {
	w.t.Helper()
	w.must(os.CopyFS(w.nodeModules(), os.DirFS(filepath.Join(root(w.t), "e2e", "node", "node_modules"))))
}

func (w *World) nodeModules() string { return filepath.Join(w.AgentDir(), "node_modules") }

// placeFiles has place put the files of a directory, not those below it, into another.
func placeFiles(to, from string, place func(to, from string) error) error {
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
		if err := place(filepath.Join(to, entry.Name()), filepath.Join(from, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

// linkFile spares each world 140 MB of programs. Where no link is possible it copies.
func linkFile(to, from string) error {
	if os.Link(from, to) == nil {
		return nil
	}
	return copyFile(to, from)
}

func copyFile(to, from string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o755)
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
