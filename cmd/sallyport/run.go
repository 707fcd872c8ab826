package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sallyport/cmd/sallyport/client"
	"sallyport/control/datadir"
)

type runCmd struct {
	Agent      string   `required:"" placeholder:"AGENT" help:"The agent to run as."`
	UpstreamCA []string `name:"upstream-ca" sep:"none" placeholder:"FILE" help:"PEM certificates to trust for the services the agent calls, beside the system's. May be repeated."`
	ConnectTo  []string `sep:"none" placeholder:"HOST1:PORT1:HOST2:PORT2" help:"Connect to HOST2:PORT2 for HOST1:PORT1, as in curl. May be repeated."`
	Share      []string `sep:"none" placeholder:"PATH" help:"A file or directory in /tmp, /var/tmp or /run that the agent needs: the sandbox has its own. May be repeated."`
	Keep       bool     `help:"Leave the sandbox in the control plane's list when the command has ended."`
	LogLevel   string   `enum:"debug,info,warn,error" default:"warn" placeholder:"LEVEL" help:"What the sidecar tells on standard error: debug, info, warn or error."`
	Sidecar    string   `placeholder:"FILE" help:"The sallyport-sidecar to start (default: the one beside this program, then the one in PATH)."`
	Command    []string `arg:"" passthrough:"" name:"cmd" help:"The command and its arguments, after --."`
}

// removal bounds what is left to do when the command has ended.
const removal = 10 * time.Second

func (cmd *runCmd) Run(ctx context.Context, c *cli) error {
	signals := relayed()
	defer signal.Stop(signals)
	command := cmd.Command
	if command[0] == "--" {
		command = command[1:]
	}
	if len(command) == 0 {
		return usagef("run needs a command after --")
	}
	sidecar, err := findSidecar(cmd.Sidecar)
	if err != nil {
		return err
	}
	for _, file := range cmd.UpstreamCA {
		if _, err := os.Stat(file); err != nil {
			return fmt.Errorf("--upstream-ca: %w", err)
		}
	}
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	// Not cut short by an interrupt: what was made must be known to be removed.
	made, err := api.CreateSandbox(context.WithoutCancel(ctx), team, cmd.Agent)
	if err != nil {
		return err
	}
	err = cmd.start(ctx, c, sidecar, made, command, signals)
	if !cmd.Keep {
		c.remove(ctx, api, team, made.Sandbox.ID)
	}
	return err
}

// remove deletes the sandbox even when ctx has been interrupted. A failure
// changes nothing about how the command ended.
func (c *cli) remove(ctx context.Context, api *client.Client, team, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removal)
	defer cancel()
	if err := api.DeleteSandbox(ctx, team, id); err != nil {
		c.warn("the sandbox was not removed, do it with 'sallyport sandbox rm %s': %v", id, err)
	}
}

// start runs the sidecar, with the join token in a pipe that only it can read,
// once.
func (cmd *runCmd) start(ctx context.Context, c *cli, sidecar string, made client.NewSandbox, command []string, signals <-chan os.Signal) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	token, err := pipeOf(string(made.JoinToken))
	if err != nil {
		return fmt.Errorf("hand over the join token: %w", err)
	}
	defer token.Close()
	child := exec.Command(sidecar, cmd.sidecarArgs(c, made.SidecarURL, command)...)
	child.Env = withoutOwn(os.Environ())
	child.Stdin, child.Stdout, child.Stderr = c.stdin, c.stdout, c.stderr
	child.ExtraFiles = []*os.File{token}
	return supervise(child, signals)
}

// sidecarArgs holds no secret: an argument can be read by every process.
func (cmd *runCmd) sidecarArgs(c *cli, control string, command []string) []string {
	args := []string{"init", "--control", control, "--join-token-file", "/dev/fd/3", "--log-level", cmd.LogLevel}
	for _, file := range cmd.UpstreamCA {
		args = append(args, "--upstream-ca", file)
	}
	for _, to := range cmd.ConnectTo {
		args = append(args, "--connect-to", to)
	}
	for _, path := range cmd.Share {
		args = append(args, "--share", path)
	}
	for _, place := range c.secretPlaces() {
		args = append(args, "--hide", place)
	}
	return append(append(args, "--"), command...)
}

// secretPlaces are the files and directories with tokens or keys that the agent
// could read because it shares this user's files: the configuration, the token
// file and the data directory of a control plane on this machine.
func (c *cli) secretPlaces() []string {
	var places []string
	add := func(place string) {
		resolved, err := filepath.EvalSymlinks(place)
		if err != nil {
			return // not there, so nothing to hide
		}
		if absolute, err := filepath.Abs(resolved); err == nil && !slices.Contains(places, absolute) {
			places = append(places, absolute)
		}
	}
	if dir, err := c.configDir(); err == nil {
		// Only what exists can be hidden, and a login may come while the agent runs.
		_ = os.MkdirAll(dir, 0o700)
		add(dir)
	}
	for _, dir := range c.dataDirs() {
		add(dir)
	}
	kept, _ := c.loadConfig()
	for _, file := range []string{string(c.flags.TokenFile), kept.TokenFile} {
		if file == "" || file == "-" {
			continue
		}
		if dir := dataDirOf(file); dir != "" {
			add(dir)
		} else {
			add(file)
		}
	}
	return places
}

// dataDirOf gives the data directory of a control plane that a token file lies
// in, or "".
func dataDirOf(file string) string {
	resolved, err := filepath.EvalSymlinks(file)
	if err != nil {
		return ""
	}
	dir := filepath.Dir(resolved)
	if _, err := os.Stat(filepath.Join(dir, "kek")); err != nil && filepath.Base(resolved) != "admin-token" {
		return ""
	}
	return dir
}

// dataDirs are where control planes on this machine keep their data: the places
// they take unless told otherwise, and those that were told.
func (c *cli) dataDirs() []string {
	return append(datadir.Usual(c.getenv), datadir.Known(c.getenv)...)
}

// withoutOwn drops the variables of Sallyport itself, SALLYPORT_TOKEN above all.
func withoutOwn(environ []string) []string {
	var kept []string
	for _, entry := range environ {
		if !strings.HasPrefix(entry, "SALLYPORT_") {
			kept = append(kept, entry)
		}
	}
	return kept
}

// pipeOf gives the reading end of a pipe that holds text and is closed behind it.
func pipeOf(text string) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	// A pipe's buffer takes this much without a reader.
	_, err = io.WriteString(w, text)
	if err = errors.Join(err, w.Close()); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

func findSidecar(flag string) (string, error) {
	const name = "sallyport-sidecar"
	if flag != "" {
		path, err := exec.LookPath(flag)
		if err != nil {
			return "", fmt.Errorf("--sidecar: %w", err)
		}
		return path, nil
	}
	if self, err := os.Executable(); err == nil {
		if path, err := exec.LookPath(filepath.Join(filepath.Dir(self), name)); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", withHint(fmt.Errorf("%s is neither beside this program nor in PATH", name), "install it, or name it with --sidecar FILE")
	}
	return path, nil
}
