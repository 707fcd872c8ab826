// Package e2e runs the three programs as people do: a control plane with its own
// Postgres, real upstream servers behind a certificate authority made for the
// test, and real clients inside sandboxes.
//
//	client ─ sealed namespace ─ sidecar ─ TLS ─ nginx ─┬─ stripe-mock
//	                              │                    ├─ git http-backend
//	                        control plane              └─ answers by itself
package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/control/controltest/migrated"
)

// patience bounds every wait for something that should happen soon.
const patience = 30 * time.Second

// World is one control plane with its upstreams. It belongs to one test, which
// it fails when anything goes wrong, and it leaves nothing behind.
type World struct {
	Dir        string // of this world alone
	Server     string // URL of the admin API
	SidecarURL string // of the sidecar API
	Metrics    string // URL of the control plane's metrics
	Nginx      *Nginx

	t         testing.TB
	flags     []string // of serve
	origins   []string // --connect-to of the test's own upstreams
	control   *Program
	authority *authority
	user      *user
	team      string // "": the one that is there at first
}

// Kind is how a world's programs were built.
type Kind string

const (
	// Race is with the race detector, which makes a sandbox slower to start.
	Race Kind = "race"
	// Shipped is as make build builds them.
	Shipped Kind = "shipped"
)

// NewWorld starts a control plane and the upstreams, and stops them with t. The
// programs have the race detector unless t makes many sandboxes.
func NewWorld(t testing.TB, kind Kind) *World {
	t.Helper()
	before := leftovers(t)
	dir, err := os.MkdirTemp("", "sallyport-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	w := &World{t: t, Dir: dir}
	t.Cleanup(func() {
		checkLeftovers(t, before)
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove the world's directory: %v", err)
		}
	})
	// The control plane's Postgres and ordinary users come through here.
	w.must(os.Chmod(dir, 0o755))
	w.install(kind)
	w.authority = newAuthority(t)
	w.must(os.WriteFile(w.UpstreamCA(), w.authority.pem, 0o644))
	w.Nginx = w.startNginx()
	w.flags = w.chooseListeners()
	w.must(migrated.Lay(w.DataDir()))
	w.StartControl()
	t.Cleanup(func() { w.StopControl() })
	return w
}

// In gives the same world for a subtest, which then is what fails.
func (w *World) In(t testing.TB) *World {
	other := *w
	nginx := *w.Nginx
	other.t, other.Nginx, nginx.w = t, &nginx, &other
	return &other
}

// Team makes a team, and gives the same world seen by its administrator.
func (w *World) Team(name string) *World {
	w.t.Helper()
	w.CLI("team", "create", name)
	other := *w
	other.team = name
	return &other
}

// DataDir is the control plane's.
func (w *World) DataDir() string { return filepath.Join(w.Dir, "data") }

// UpstreamCA is the file with the certificate that the upstreams' ones come from.
func (w *World) UpstreamCA() string { return filepath.Join(w.Dir, "upstream-ca.pem") }

// Program gives the path of one of the three programs.
func (w *World) Program(name string) string { return filepath.Join(w.Dir, "bin", name) }

// AgentDir is where agents work; of what is in the world's directory, which is a
// temporary one, a sandbox sees this alone.
func (w *World) AgentDir() string { return filepath.Join(w.Dir, "agent") }

// Client gives the path of one of the clients that agents run.
func (w *World) Client(name string) string { return filepath.Join(w.AgentDir(), name) }

func (w *World) chooseListeners() []string {
	ports := freePorts(w.t, 3)
	w.Server = fmt.Sprintf("http://127.0.0.1:%d", ports[0])
	w.SidecarURL = fmt.Sprintf("https://127.0.0.1:%d", ports[1])
	w.Metrics = fmt.Sprintf("http://127.0.0.1:%d/metrics", ports[2])
	return []string{
		"--data-dir", w.DataDir(),
		"--admin-listen", strings.TrimPrefix(w.Server, "http://"),
		"--sidecar-listen", strings.TrimPrefix(w.SidecarURL, "https://"),
		"--metrics-listen", fmt.Sprintf("127.0.0.1:%d", ports[2]),
		"--exchange-ca", w.UpstreamCA(), "--exchange-network", "127.0.0.0/8",
	}
}

// StartControl starts the control plane and waits until it is ready.
func (w *World) StartControl() {
	w.t.Helper()
	w.control = w.start("sallyport-control", w.ServeCommand()...)
	w.AwaitControl()
}

// StartControlKnowing starts the control plane where names stand for an address, in a
// mount namespace of its own.
func (w *World) StartControlKnowing(address string, names ...string) {
	w.t.Helper()
	hosts := filepath.Join(w.Dir, "hosts")
	w.must(os.WriteFile(hosts, []byte("127.0.0.1 localhost\n"+address+" "+strings.Join(names, " ")+"\n"), 0o644))
	inside := []string{"unshare", "--mount", "sh", "-c", "mount --bind " + hosts + ` /etc/hosts && exec "$@"`, "sh"}
	w.control = w.start("sallyport-control", append(inside, w.ServeCommand()...)...)
	w.AwaitControl()
}

// AwaitControl waits until the control plane is ready, whoever started it.
func (w *World) AwaitControl() {
	w.t.Helper()
	w.Eventually("the control plane is ready", func() bool {
		if w.control != nil {
			select {
			case <-w.control.done:
				w.t.Fatalf("the control plane ended: %v\n%s", w.control.err, w.control.output())
			default:
			}
		}
		return w.status("/readyz") == http.StatusOK
	})
}

// ServeCommand is how the control plane is started.
func (w *World) ServeCommand() []string {
	return append([]string{w.Program("sallyport-control"), "serve"}, w.flags...)
}

// StopControl asks the control plane to end and waits until it has. It may have
// been stopped before.
func (w *World) StopControl() {
	w.t.Helper()
	if w.control == nil {
		return
	}
	w.control.Stop()
	if log := w.control.output(); strings.Contains(log, "DATA RACE") {
		w.t.Errorf("the control plane has a data race:\n%s", log)
	}
	w.control = nil
}

// KillControl kills the control plane as a power cut would: its Postgres is not told.
func (w *World) KillControl() {
	w.t.Helper()
	w.must(w.control.cmd.Process.Kill())
	<-w.control.done
	w.control = nil
}

// ControlLog is what the control plane has logged since it was last started.
func (w *World) ControlLog() string { return w.control.output() }

// status gives the HTTP status of a GET, 0 when nobody answers.
func (w *World) status(path string) int {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, w.Server+path, nil)
	w.must(err)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0
	}
	response.Body.Close()
	return response.StatusCode
}

// AdminToken is the first API token, which the control plane wrote at its first start.
func (w *World) AdminToken() string {
	w.t.Helper()
	token, err := os.ReadFile(filepath.Join(w.DataDir(), "admin-token"))
	w.must(err)
	return strings.TrimSpace(string(token))
}

// API asks the admin API and gives the status and body of its answer.
func (w *World) API(method, path, token string) (status int, body string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, w.Server+path, nil)
	w.must(err)
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(request)
	w.must(err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	w.must(err)
	return response.StatusCode, string(text)
}

// Serve runs a control plane that is expected to end by itself.
func (w *World) Serve() Result {
	w.t.Helper()
	command := w.ServeCommand()
	return w.finish(exec.Command(command[0], command[1:]...), "")
}

// Eventually waits until done says so, or fails the test.
func (w *World) Eventually(what string, done func() bool) {
	w.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline.C:
			w.t.Fatalf("after %s it is still not so that %s", patience, what)
		}
	}
}

func (w *World) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}
