package main

import (
	"bufio"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"sallyport/control/embedded"
	"sallyport/e2e/stage"
)

const (
	// host is what the certificate of an httptest.Server is for.
	host     = "example.com"
	patience = 30 * time.Second
)

// world is a database, an upstream that notes what it is sent, and what was started.
type world struct {
	*stage.Stage
	ctx      context.Context
	database *embedded.Cluster
	data     string // the database's folder, which ends after the stage's
	upstream *httptest.Server
	replicas int
	secrets  int // that there have been

	mu   sync.Mutex
	last map[string]string // what came with the newest request, by sandbox
	bare string            // a request without any of the secrets
}

// replica is one of the control plane.
type replica struct {
	bin, dir, admin, sidecar string
	process                  *stage.Process
}

// sandbox is one whose agent asks all the time.
type sandbox struct {
	name, id string
	process  *stage.Process
	lines    *bufio.Scanner
}

func newWorld(ctx context.Context) (*world, error) {
	s, err := stage.New(ctx, "upgrade", ".")
	if err != nil {
		return nil, err
	}
	w := &world{Stage: s, ctx: ctx, last: map[string]string{}}
	if w.data, err = os.MkdirTemp("", "sallyport-upgrade-"); err == nil {
		if err = os.Chmod(w.data, 0o755); err == nil { // Postgres runs as another user
			w.database, err = embedded.Start(ctx, w.data, slog.New(slog.DiscardHandler))
		}
	}
	if err != nil {
		w.close()
		return nil, err
	}
	w.upstream = httptest.NewTLSServer(w)
	return w, os.WriteFile(s.Path("ca.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.upstream.Certificate().Raw}), 0o644)
}

func (w *world) close() {
	w.Close() // the processes
	if w.upstream != nil {
		w.upstream.Close()
	}
	if w.database != nil {
		_ = w.database.Stop(context.Background()) // it never fails
	}
	if w.data != "" {
		os.RemoveAll(w.data)
	}
}

func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	authorization := r.Header.Get("Authorization")
	w.mu.Lock()
	defer w.mu.Unlock()
	if !strings.HasPrefix(authorization, "Bearer "+secretPrefix) {
		w.bare = r.URL.Path + ": " + authorization
	}
	w.last[r.URL.Path] = authorization
	fmt.Fprintln(rw, "ok")
}

const secretPrefix = "key-of-the-upgrade-"

func (w *world) secret() string { return secretPrefix + strings.Repeat("0123456789", w.secrets) }

// serve starts a replica of a build.
func (w *world) serve(bin string) (*replica, error) {
	w.replicas++
	r := &replica{bin: bin, dir: w.Path(fmt.Sprint("replica-", w.replicas))}
	var listen []string
	for range 3 {
		address, err := stage.FreeAddress()
		if err != nil {
			return nil, err
		}
		listen = append(listen, address)
	}
	r.admin, r.sidecar = "http://"+listen[0], "https://"+listen[1]
	var err error
	r.process, err = w.Server(-1, filepath.Join(bin, "sallyport-control"), "serve", "--data-dir", r.dir, "--database", w.database.URL(),
		"--kek", w.Path("kek"), "--admin-listen", listen[0], "--sidecar-listen", listen[1], "--metrics-listen", listen[2])
	if err != nil {
		return nil, err
	}
	return r, w.Await(r.process, func() error {
		response, err := http.Get(r.admin + "/readyz")
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("it is not ready: %s", response.Status)
		}
		return nil
	})
}

// cli runs the replica's own CLI, as the first admin.
func (w *world) cli(r *replica, stdin string, args ...string) (string, error) {
	token := w.Path("replica-1/admin-token")
	cmd := exec.CommandContext(w.ctx, filepath.Join(r.bin, "sallyport"), append([]string{"--server", r.admin, "--token-file", token}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	output, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("sallyport %s: %w\n%s", strings.Join(args, " "), err, output)
	}
	return string(output), nil
}

func (w *world) lines(r *replica, lines ...string) error {
	for _, line := range lines {
		if _, err := w.cli(r, "", strings.Fields(line)...); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) setUp(r *replica) error {
	if err := w.lines(r, "vault create v", "agent create a", "agent pin a v"); err != nil {
		return err
	}
	w.secrets++
	_, err := w.cli(r, w.secret(), "credential", "add", "--vault", "v", "--name", "c", "--host", host, "--inject", "bearer", "--secret-file", "-")
	return err
}

func (w *world) rotate(r *replica) error {
	w.secrets++
	_, err := w.cli(r, w.secret(), "credential", "rotate", "--vault", "v", "c", "--secret-file", "-", "--wait")
	return err
}

// start starts a sandbox whose sidecar is of a build and knows one replica.
func (w *world) start(name, bin string, r *replica) (*sandbox, error) {
	s := &sandbox{name: strings.ReplaceAll(strings.ReplaceAll(name, ",", ""), " ", "-")}
	token, err := w.cli(r, "", "sandbox", "create", "--agent", "a")
	if err != nil {
		return s, err
	}
	file := w.Path(s.name)
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		return s, err
	}
	address, port, err := net.SplitHostPort(w.upstream.Listener.Addr().String())
	if err != nil {
		return s, err
	}
	s.process, err = w.Server(-1, filepath.Join(bin, "sallyport-sidecar"), "init", "--control", r.sidecar, "--join-token-file", file,
		"--upstream-ca", w.Path("ca.pem"), "--connect-to", fmt.Sprintf("%s:443:%s:%s", host, address, port), "--", w.Self, "agent")
	if err != nil {
		return s, err
	}
	s.lines = bufio.NewScanner(s.process.Output)
	if _, err := fmt.Fprintln(s.process.Input, s.name); err != nil {
		return s, err
	}
	s.id, err = w.newest(r)
	return s, err
}

// newest is the id of the sandbox made last.
func (w *world) newest(r *replica) (string, error) {
	text, err := w.cli(r, "", "-o", "json", "sandbox", "list")
	if err != nil {
		return "", err
	}
	var all []struct{ ID string }
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return "", err
	}
	newest := ""
	for _, one := range all {
		newest = max(newest, one.ID) // UUIDs of version 7
	}
	return newest, nil
}

// uses waits until the sandbox's requests have the newest secret.
func (w *world) uses(s *sandbox) error {
	w.mu.Lock()
	delete(w.last, "/"+s.name)
	w.mu.Unlock()
	return w.Await(s.process, func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		switch {
		case w.bare != "":
			return fmt.Errorf("a request had none of the secrets: %s", w.bare)
		case w.last["/"+s.name] != "Bearer "+w.secret():
			return fmt.Errorf("the newest request of %q has another secret than the newest, or there is none", s.name)
		}
		return nil
	})
}

// changes has a replica make some of everything, and looks for it at the other.
func (w *world) changes(at, other *replica, name string) error {
	if err := w.lines(at, "vault create "+name, "agent create "+name, "agent pin "+name+" "+name, "token create "+name+" --role viewer", "agent policy set "+name+" --default deny"); err != nil {
		return err
	}
	if _, err := w.cli(at, "a-secret-of-"+name, "credential", "add", "--vault", name, "--name", name, "--service", "stripe", "--secret-file", "-"); err != nil {
		return err
	}
	for _, line := range []string{"vault list", "agent list", "credential list --vault " + name, "token list", "sandbox list", "audit list --limit 1000"} {
		said, err := w.cli(other, "", strings.Fields(line)...)
		if err != nil {
			return err
		}
		if !strings.Contains(said, name) && line != "sandbox list" {
			return fmt.Errorf("sallyport %s does not show it:\n%s", line, said)
		}
	}
	return w.lines(other, "credential rm --vault "+name+" "+name, "agent rm "+name, "vault rm "+name)
}

// revokes revokes a sandbox, whose requests fail then.
func (w *world) revokes(r *replica, s *sandbox) error {
	if _, err := w.cli(r, "", "sandbox", "rm", s.id); err != nil {
		return err
	}
	return w.Await(s.process, func() error {
		switch said, err := s.report(); {
		case err != nil:
			return err
		case said.OK > 0:
			return errors.New("its requests are answered")
		}
		return nil
	})
}

// ends ends a sandbox. No request of it may have failed.
func (w *world) ends(s *sandbox) error {
	said, err := s.report()
	if err == nil && (said.OK == 0 || len(said.Failed) > 0) {
		err = fmt.Errorf("of the requests of %q %d were answered, and failed %q", s.name, said.OK, said.Failed)
	}
	s.process.Stop()
	return err
}

// audited verifies the chain, and looks for the requests of a sandbox.
func (w *world) audited(r *replica, s *sandbox) error {
	if err := w.lines(r, "audit verify"); err != nil {
		return err
	}
	return w.Await(r.process, func() error {
		said, err := w.cli(r, "", "audit", "list", "--limit", "1000")
		if err == nil && !strings.Contains(said, "/"+s.name) {
			err = fmt.Errorf("there is no event of %q", s.name)
		}
		return err
	})
}
