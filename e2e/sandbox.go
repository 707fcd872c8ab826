package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Result is how a command ended.
type Result struct {
	Status         int
	Stdout, Stderr string
}

// CLI runs sallyport as the administrator and gives what it prints. It must succeed.
func (w *World) CLI(args ...string) string {
	w.t.Helper()
	return w.CLIReading("", args...)
}

// StartCLI is CLI for a command that waits for something.
func (w *World) StartCLI(args ...string) *Program {
	w.t.Helper()
	return w.startCommand("sallyport "+args[0], w.cli(args...))
}

// CLIReading is CLI with a standard input.
func (w *World) CLIReading(stdin string, args ...string) string {
	w.t.Helper()
	r := w.TryCLI(stdin, args...)
	if r.Status != 0 {
		w.t.Fatalf("sallyport %s: exit status %d\n%s%s", strings.Join(args, " "), r.Status, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// TryCLI runs sallyport, which may fail.
func (w *World) TryCLI(stdin string, args ...string) Result {
	w.t.Helper()
	return w.finish(w.cli(args...), stdin)
}

// Pinned makes a vault, a credential in it and an agent that it is pinned to, all
// of them called name. The flags are those of credential add.
func (w *World) Pinned(name, secret string, flags ...string) {
	w.t.Helper()
	w.CLI("vault", "create", name)
	w.Credential(name, name, secret, flags...)
	w.CLI("agent", "create", name)
	w.CLI("agent", "pin", name, name)
}

// Credential adds a credential, its secret by standard input.
func (w *World) Credential(vault, name, secret string, flags ...string) {
	w.t.Helper()
	w.CLIReading(secret, append([]string{"credential", "add", "--vault", vault, "--name", name, "--secret-file", "-"}, flags...)...)
}

// Run runs a command in a sandbox of agent and gives its standard output. It must succeed.
func (w *World) Run(agent string, command ...string) string {
	w.t.Helper()
	r := w.TryRun(agent, command...)
	if r.Status != 0 {
		w.t.Fatalf("%s in a sandbox: exit status %d\n%s%s", strings.Join(command, " "), r.Status, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// TryRun runs a command, which may fail, in a sandbox of agent.
func (w *World) TryRun(agent string, command ...string) Result {
	w.t.Helper()
	return w.finish(w.run(agent, command), "")
}

// Start starts a command in a sandbox of agent and leaves it running.
func (w *World) Start(agent string, command ...string) *Program {
	w.t.Helper()
	return w.startCommand("sandbox of "+agent, w.run(agent, command))
}

// StartWithMetrics is Start through sallyport-sidecar itself, which then also
// serves metrics.
func (w *World) StartWithMetrics(agent string, command ...string) *Program {
	w.t.Helper()
	listen := fmt.Sprintf("127.0.0.1:%d", freePorts(w.t, 1)[0])
	p := w.StartSidecar(agent, []string{"init", "--metrics-listen", listen}, command...)
	p.Metrics = "http://" + listen + "/metrics"
	return p
}

// StartSidecar starts sallyport-sidecar itself for a new sandbox of agent: how is its
// first arguments, and command what it runs, if it does.
func (w *World) StartSidecar(agent string, how []string, command ...string) *Program {
	w.t.Helper()
	file, err := os.CreateTemp(w.Dir, "join-token-")
	w.must(err)
	_, err = file.WriteString(w.CLI("sandbox", "create", "--agent", agent))
	w.must(errors.Join(err, file.Close()))
	args := append(slices.Clone(how), "--control", w.SidecarURL, "--join-token-file", file.Name(), "--upstream-ca", w.UpstreamCA())
	for _, to := range w.ConnectTo() {
		args = append(args, "--connect-to", to)
	}
	if len(command) > 0 {
		args = append(append(args, "--"), command...)
	}
	return w.startCommand("sandbox of "+agent, w.sidecar(args...))
}

// StartOutside starts a command outside any sandbox.
func (w *World) StartOutside(command ...string) *Program {
	w.t.Helper()
	return w.start(command[0], command...)
}

// Sidecar runs sallyport-sidecar itself, which may fail.
func (w *World) Sidecar(args ...string) Result {
	w.t.Helper()
	return w.finish(w.sidecar(args...), "")
}

func (w *World) sidecar(args ...string) *exec.Cmd {
	cmd := w.cli()
	cmd.Path, cmd.Args = w.Program("sallyport-sidecar"), append([]string{"sallyport-sidecar"}, args...)
	return cmd
}

func (w *World) run(agent string, command []string) *exec.Cmd {
	args := []string{"run", "--agent", agent, "--upstream-ca", w.UpstreamCA()}
	for _, to := range w.ConnectTo() {
		args = append(args, "--connect-to", to)
	}
	return w.cli(append(append(args, "--"), command...)...)
}

// cli is a run of sallyport as the world's user.
func (w *World) cli(args ...string) *exec.Cmd {
	flags := []string{"--server", w.Server}
	if w.user == nil {
		flags = append(flags, "--token-file", filepath.Join(w.DataDir(), "admin-token"))
	}
	if w.team != "" {
		flags = append(flags, "--team", w.team)
	}
	command := append([]string{w.Program("sallyport")}, append(flags, args...)...)
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = w.AgentDir()
	cmd.Env = w.environ()
	if w.user != nil {
		cmd.Env = append(cmd.Env, "SALLYPORT_TOKEN="+w.AdminToken())
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: w.user.uid, Gid: w.user.uid}}
	}
	return cmd
}

// environ is what a shell of the world's user has: none of the variables of this
// machine that tell a client whom to trust or which proxy to use.
func (w *World) environ() []string {
	kept := slices.DeleteFunc(os.Environ(), func(entry string) bool {
		name, _, _ := strings.Cut(strings.ToUpper(entry), "=")
		return name == "HOME" || strings.HasPrefix(name, "XDG_") || strings.HasPrefix(name, "SALLYPORT_") ||
			strings.HasSuffix(name, "_PROXY") || strings.Contains(name, "CERT") || strings.Contains(name, "_CA_") ||
			strings.Contains(name, "CAINFO") || name == "JAVA_TOOL_OPTIONS"
	})
	// A process with the race detector would wait a second before it ends.
	return append(kept, "GORACE=atexit_sleep_ms=0", "HOME="+w.home(), "NODE_PATH="+w.nodeModules())
}

func (w *World) home() string {
	if w.user != nil {
		return w.user.home
	}
	return filepath.Join(w.Dir, "home")
}

// user is an ordinary one, who need not be in /etc/passwd.
type user struct {
	uid  uint32
	home string
}

// AsOrdinaryUser gives the same world seen by a user without any privilege. When
// the tests themselves run as one, that is this user.
func (w *World) AsOrdinaryUser() *World {
	w.t.Helper()
	if os.Getuid() != 0 {
		return w
	}
	other := *w
	other.user = &user{uid: 23456, home: filepath.Join(w.Dir, "ordinary")}
	if err := os.Mkdir(other.user.home, 0o700); !errors.Is(err, os.ErrExist) {
		w.must(err)
	}
	w.must(os.Chown(other.user.home, int(other.user.uid), int(other.user.uid)))
	return &other
}

// finish runs a command to its end, within the world's patience.
func (w *World) finish(cmd *exec.Cmd, stdin string) Result {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		w.t.Fatalf("%s: %v", cmd, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.t.Fatalf("%s: %v\n%s%s", cmd, err, &stdout, &stderr)
	}
	if ctx.Err() != nil {
		w.t.Fatalf("%s: not done after %s\n%s%s", cmd, 2*patience, &stdout, &stderr)
	}
	if strings.Contains(stderr.String(), "DATA RACE") {
		w.t.Errorf("%s has a data race:\n%s", cmd, &stderr)
	}
	return Result{Status: cmd.ProcessState.ExitCode(), Stdout: stdout.String(), Stderr: stderr.String()}
}
