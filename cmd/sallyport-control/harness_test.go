package main

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/control/controltest/migrated"
	"sallyport/control/controltest/server"
)

// patience bounds a wait for something that must happen.
const patience = 60 * time.Second

// asProgram makes the test binary behave as the program.
const asProgram = "SALLYPORT_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// program is a running sallyport-control.
type program struct {
	*exec.Cmd
	dir            string
	admin          string // URL
	sidecar        string // URL
	metrics        string // URL
	stdout, stderr *server.Output
	exited         chan struct{}
}

// command is the program with arguments; it is killed when the test ends.
func command(t *testing.T, args ...string) (*exec.Cmd, *server.Output, *server.Output) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	stdout, stderr := &server.Output{}, &server.Output{}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	return cmd, stdout, stderr
}

// laid is a data directory with a cluster in it, for a test that is not about the first start.
func laid(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := migrated.Lay(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// start runs serve on a data directory and free ports, without waiting.
func start(t *testing.T, dir string, flags ...string) *program {
	t.Helper()
	p := prepare(t, dir, flags...)
	p.begin(t)
	return p
}

// prepare makes serve on a data directory and free ports.
func prepare(t *testing.T, dir string, flags ...string) *program {
	t.Helper()
	args := append([]string{"serve", "--data-dir", dir}, flags...)
	p := &program{dir: dir, exited: make(chan struct{})}
	for flag, into := range map[string]*string{"--admin-listen": &p.admin, "--sidecar-listen": &p.sidecar, "--metrics-listen": &p.metrics} {
		if !strings.Contains(strings.Join(flags, " "), flag) {
			address := freeAddress(t)
			args = append(args, flag, address)
			*into = "http://" + address
		}
	}
	p.Cmd, p.stdout, p.stderr = command(t, args...)
	return p
}

func (p *program) begin(t *testing.T) {
	t.Helper()
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() { p.end(t, syscall.SIGTERM) })
}

// serve runs it and waits until it is ready.
func serve(t *testing.T, dir string, flags ...string) *program {
	t.Helper()
	p := start(t, dir, flags...)
	p.ready(t)
	return p
}

func (p *program) ready(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(patience); !strings.Contains(p.stdout.String(), "is ready"); time.Sleep(5 * time.Millisecond) {
		select {
		case <-p.exited:
			t.Fatalf("it ended: %s%s", p.stdout, p.stderr)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("it is not ready: %s%s", p.stdout, p.stderr)
		}
	}
}

// end sends a signal and waits for the end.
func (p *program) end(t *testing.T, signal syscall.Signal) int {
	t.Helper()
	if err := p.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	select {
	case <-p.exited:
	case <-time.After(patience):
		p.Process.Kill()
		<-p.exited
		t.Errorf("it does not end: %s", p.stderr)
	}
	return p.ProcessState.ExitCode()
}

// fails waits for a start to fail and gives what it said.
func (p *program) fails(t *testing.T) string {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
		t.Fatalf("it does not end: %s%s", p.stdout, p.stderr)
	}
	if code := p.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit code %d", code)
	}
	if strings.Contains(p.stderr.String(), "goroutine ") {
		t.Errorf("it panicked: %s", p.stderr)
	}
	return p.stderr.String()
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// call asks the admin API with the token of the data directory.
func (p *program) call(t *testing.T, method, path, body string) (int, string) {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(p.dir, "admin-token"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, p.admin+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	r.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		r.Header.Set("If-Match", "*")
	}
	return do(t, http.DefaultClient, r)
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return do(t, http.DefaultClient, r)
}

func do(t *testing.T, client *http.Client, r *http.Request) (int, string) {
	t.Helper()
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(content)
}
