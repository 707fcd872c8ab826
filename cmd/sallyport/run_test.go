package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport/control/datadir"
)

const joinToken = "sp_join_canary.pin"

// sandboxControl is a control plane that only makes and removes sandboxes.
type sandboxControl struct {
	*httptest.Server
	removed chan string   // ids
	asked   chan struct{} // gets two values before a sandbox is made; unbuffered, it holds that up
	refuse  atomic.Bool   // to remove
	made    atomic.Int32
}

func newSandboxControl(t *testing.T) *sandboxControl {
	t.Helper()
	return newHeldControl(t, make(chan struct{}, 100))
}

func newHeldControl(t *testing.T, asked chan struct{}) *sandboxControl {
	t.Helper()
	f := &sandboxControl{removed: make(chan string, 10), asked: asked}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/teams/default/agents/billing/sandboxes", func(w http.ResponseWriter, _ *http.Request) {
		f.asked <- struct{}{}
		f.asked <- struct{}{}
		fmt.Fprintf(w, `{"sandbox":{"id":"sb-%d"},"join_token":%q,"sidecar_url":"https://127.0.0.1:8201"}`, f.made.Add(1), joinToken)
	})
	mux.HandleFunc("DELETE /v1/teams/default/sandboxes/{id}", func(w http.ResponseWriter, r *http.Request) {
		f.removed <- r.PathValue("id")
		if f.refuse.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	f.Server = httptest.NewServer(mux)
	t.Cleanup(f.Close)
	return f
}

// gone is the id of the next removed sandbox, which must have been removed.
func (f *sandboxControl) gone(t *testing.T) string {
	t.Helper()
	select {
	case id := <-f.removed:
		return id
	default:
		t.Error("the sandbox was not removed")
		return ""
	}
}

// command is "sallyport run --agent billing ARGS" as a process of its own.
func (f *sandboxControl) command(t *testing.T, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), "sallyport", append([]string{"run", "--agent", "billing"}, args...)...)
	cmd.Env = append(os.Environ(), "SALLYPORT_SERVER="+f.URL, "SALLYPORT_TOKEN="+canary, "HOME="+t.TempDir())
	return cmd
}

func TestRunGivesTheCommandsStatus(t *testing.T) {
	f := newSandboxControl(t)
	for script, want := range map[string]int{
		"true": 0, "exit 1": 1, "exit 42": 42, "exit 255": 255,
		"kill -KILL $$": 137, "kill -TERM $$": 143,
		`test "$(cat)" = input`: 0,
		`test "$1" = "a b"`:     0,
	} {
		cmd := f.command(t, "--", "sh", "-c", script, "sh", "a b")
		cmd.Stdin = strings.NewReader("input")
		text, err := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != want || len(text) != 0 {
			t.Errorf("%s: status %d, want %d; %v %s", script, got, want, err, text)
		}
		f.gone(t)
	}
}

func TestRunHandsOverNoSecret(t *testing.T) {
	f := newSandboxControl(t)
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	tokenFile := write(t, filepath.Join(data, "admin-token"), canary+"\n")
	ca := write(t, filepath.Join(dir, "ca.pem"), "PEM")
	cmd := f.command(t, "--token-file", tokenFile, "--upstream-ca", ca, "--connect-to", "a:443:b:8443", "--connect-to", "c:443:d:1", "--share", dir, "--", "env")
	config := filepath.Join(dir, "config")
	out := filepath.Join(dir, "handover")
	cmd.Env = append(cmd.Env, "XDG_CONFIG_HOME="+config, "XDG_DATA_HOME=", "SALLYPORT_TEAM=default", "SALLYPORT_ANYTHING="+canary, "HANDOVER="+out, "SEEN=1")
	stdout, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var h handover
	if err := json.Unmarshal(text, &h); err != nil {
		t.Fatal(err)
	}
	if h.Token != joinToken {
		t.Errorf("the sidecar read the join token %q", h.Token)
	}
	want := []string{"init", "--control", "https://127.0.0.1:8201", "--join-token-file", "/dev/fd/3", "--log-level", "warn",
		"--upstream-ca", ca, "--connect-to", "a:443:b:8443", "--connect-to", "c:443:d:1", "--share", dir,
		"--hide", filepath.Join(config, "sallyport"), "--hide", data, "--", "env"}
	own := slices.Index(h.Args, "/var/lib/sallyport") // this machine's own, if it has one
	if own > 0 {
		h.Args = slices.Delete(h.Args, own-1, own+1)
	}
	if !slices.Equal(h.Args, want) {
		t.Errorf("arguments\n%q, want\n%q", h.Args, want)
	}
	seen := strings.Join(h.Environ, "\n") + string(stdout)
	if !strings.Contains(seen, "SEEN=1") || strings.Contains(seen, "SALLYPORT_") || strings.Contains(seen, canary) || strings.Contains(seen, joinToken) {
		t.Errorf("environment %s", seen)
	}
	if slices.Contains(h.Files, tokenFile) {
		t.Errorf("the token's file is open in the sidecar: %q", h.Files)
	}
	if info, err := os.Stat(filepath.Join(config, "sallyport")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory to be hidden: %v, %v", info, err)
	}
}

// What login read the token from is hidden as well as what login wrote.
func TestRunHidesWhatLoginKnows(t *testing.T) {
	f := newWhoControl(t)
	home, dir := t.TempDir(), t.TempDir()
	real := write(t, filepath.Join(dir, "real"), canary)
	link := filepath.Join(dir, "link")
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"HOME": home, "XDG_DATA_HOME": filepath.Join(dir, "xdg")}
	data := []string{filepath.Join(home, ".local", "share", "sallyport"), filepath.Join(dir, "xdg", "sallyport")}
	for _, d := range data {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if o := call(t, env, "", "login", "--server", f.URL, "--token-file", link); o.status != 0 {
		t.Fatalf("%+v", o)
	}
	c := &cli{getenv: func(name string) string { return env[name] }, flags: &grammar{}}
	want := []string{filepath.Join(home, ".config", "sallyport"), data[0], data[1], real}
	got := slices.DeleteFunc(c.secretPlaces(), func(place string) bool { return place == "/var/lib/sallyport" }) // this machine's own
	if !slices.Equal(got, want) {
		t.Errorf("hidden are %q, want %q", got, want)
	}
}

// A control plane may keep its data anywhere, and a token file be a link into it.
func TestRunHidesDataDirectories(t *testing.T) {
	dir := t.TempDir()
	home, elsewhere, linked := filepath.Join(dir, "home"), filepath.Join(dir, "cp"), filepath.Join(dir, "cp2")
	for _, d := range []string{home, elsewhere, linked} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(linked, "kek"), "")
	token := filepath.Join(dir, "token")
	if err := os.Symlink(write(t, filepath.Join(linked, "renamed-token"), canary), token); err != nil {
		t.Fatal(err)
	}
	getenv := func(name string) string { return map[string]string{"HOME": home}[name] }
	if err := datadir.Remember(getenv, elsewhere); err != nil {
		t.Fatal(err)
	}
	g := &grammar{}
	g.TokenFile = given(token)
	c := &cli{getenv: getenv, flags: g}
	for _, want := range []string{elsewhere, linked} {
		if got := c.secretPlaces(); !slices.Contains(got, want) {
			t.Errorf("hidden are %q, not %s", got, want)
		}
	}
}

func TestRunHandsOnSignals(t *testing.T) {
	f := newSandboxControl(t)
	p := start(t, f.command(t, "--", "witness"))
	p.expect("ready")
	for _, s := range []unix.Signal{unix.SIGUSR1, unix.SIGHUP, unix.SIGINT, unix.SIGTERM} {
		p.signal(s)
		p.expect(unix.SignalName(s))
	}
	if status := p.wait(); status != 7 {
		t.Errorf("status %d, want 7; %s", status, &p.stderr)
	}
	f.gone(t)
}

// The terminal interrupts the whole foreground group, so the command has its
// SIGINT already and must not get a second one.
func TestRunInATerminalInterruptsOnce(t *testing.T) {
	f := newSandboxControl(t)
	master, slave := terminal(t)
	cmd := f.command(t, "--", "witness")
	cmd.Stdin = slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	p := start(t, cmd)
	p.expect("ready")
	// A second one can meet the first still pending and be lost, but not each time.
	for range 8 {
		if _, err := master.Write([]byte{3}); err != nil { // Ctrl-C
			t.Fatal(err)
		}
		p.expect("SIGINT")
		p.signal(unix.SIGUSR1)
		p.expect("SIGUSR1")
	}
	p.signal(unix.SIGTERM)
	p.expect("SIGTERM")
	if status := p.wait(); status != 7 {
		t.Errorf("status %d, want 7; %s", status, &p.stderr)
	}
	f.gone(t)
}

// An interrupt that comes while the sandbox is made stops the run, before the
// command or by way of it, and the sandbox is not left behind.
func TestRunInterruptedBeforeTheStart(t *testing.T) {
	f := newHeldControl(t, make(chan struct{}))
	p := start(t, f.command(t, "--", "witness"))
	<-f.asked
	p.signal(unix.SIGTERM)
	<-f.asked
	if status := p.wait(); !slices.Contains([]int{1, 7, 143}, status) {
		t.Errorf("status %d, stderr %s", status, &p.stderr)
	}
	f.gone(t)
}

// Nobody is left to stop an agent whose CLI was killed.
func TestRunKilledTakesItsCommandAlong(t *testing.T) {
	f := newSandboxControl(t)
	p := start(t, f.command(t, "--", "witness"))
	p.expect("ready")
	p.signal(unix.SIGKILL)
	p.expect("SIGTERM")
	p.wait()
}

func TestRunKeepsAndSurvivesARefusedRemoval(t *testing.T) {
	f := newSandboxControl(t)
	if text, err := f.command(t, "--keep", "--", "true").CombinedOutput(); err != nil || len(text) > 0 {
		t.Errorf("%v %s", err, text)
	}
	if len(f.removed) != 0 {
		t.Error("--keep did not keep the sandbox")
	}
	f.refuse.Store(true)
	cmd := f.command(t, "--", "sh", "-c", "exit 5")
	text, _ := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 5 || !strings.Contains(string(text), "warning: the sandbox was not removed, do it with 'sallyport sandbox rm sb-2'") {
		t.Errorf("status %d, %s", cmd.ProcessState.ExitCode(), text)
	}
}

func TestRunWithoutASidecar(t *testing.T) {
	f := newSandboxControl(t)
	for _, sidecar := range []string{"/nowhere/sidecar", os.DevNull} {
		text, err := f.command(t, "--sidecar", sidecar, "--", "true").CombinedOutput()
		if err == nil || !strings.Contains(string(text), "error: --sidecar: ") {
			t.Errorf("%s: %v %s", sidecar, err, text)
		}
	}
	text, err := f.command(t, "--upstream-ca", "/nowhere/ca", "--", "true").CombinedOutput()
	if err == nil || !strings.Contains(string(text), "error: --upstream-ca: ") {
		t.Errorf("%v %s", err, text)
	}
	if f.made.Load() != 0 {
		t.Errorf("%d sandboxes were made in vain", f.made.Load())
	}
}

// process is a started command whose lines are read one at a time.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	lines  *bufio.Scanner
	stderr bytes.Buffer
}

func start(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	cmd.Stdout, cmd.Stderr = w, &p.stderr
	if cmd.Stdin == nil {
		in, keep, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stdin = in
		t.Cleanup(func() { in.Close(); keep.Close() })
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	p.lines = bufio.NewScanner(r)
	return p
}

func (p *process) expect(line string) {
	p.t.Helper()
	if !p.lines.Scan() || p.lines.Text() != line {
		p.t.Fatalf("read %q, %v; want %q", p.lines.Text(), p.lines.Err(), line)
	}
}

func (p *process) signal(s unix.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) wait() int {
	p.t.Helper()
	_ = p.cmd.Wait() // the status says it
	return p.cmd.ProcessState.ExitCode()
}

// terminal makes a pseudo-terminal.
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}
