// Command sallyport-sidecar runs a program in a sealed sandbox whose requests
// get their credentials on the way out. This package only reads the command
// line and joins netsetup, supervise and sidecar.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"

	"github.com/alecthomas/kong"

	"sallyport/control/logqueue"
	"sallyport/sidecar/supervise"
)

// name is argv[0] of every process of ours.
const name = "sallyport-sidecar"

// workerName is the command that init starts as the worker.
const workerName = "worker"

func main() {
	stderr := os.Stderr
	if len(os.Args) > 1 && os.Args[1] == workerName {
		var err error
		if stderr, err = supervise.QuietCrashes(); err != nil {
			os.Exit(fail(os.Stderr, err))
		}
	}
	os.Exit(run(context.Background(), os.Args[1:], os.Getenv, os.Stdout, stderr))
}

// environment is what a command may use of the process.
type environment struct {
	args           []string // as they came
	getenv         func(string) string
	stdout, stderr io.Writer
	logs           io.Writer // where log writes; it never blocks
	log            *slog.Logger
	level          slog.Level
}

type commands struct {
	LogLevel slog.Level `default:"info" placeholder:"LEVEL" help:"Log from this level on: debug, info, warn or error."`

	Init     initCmd     `cmd:"" help:"Run a command in a new sandbox, as process 1 of an image or as any program."`
	Attach   attachCmd   `cmd:"" help:"Seal a network namespace that a runtime made, and serve it."`
	Doctor   doctorCmd   `cmd:"" help:"Say what this machine allows, what is missing and which mode would be used."`
	AuditLog auditLogCmd `cmd:"" help:"Print the uses of credentials that a sandbox could not report, from its file of --audit-dir."`
	Version  versionCmd  `cmd:"" help:"Print the version."`

	Worker workerCmd `cmd:"" hidden:""`
	Stage  stageCmd  `cmd:"" hidden:""`
}

// exitStatus is how a command ended that needs no message.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// run is the whole program. It gives the agent's exit status, or
// supervise.ExitFailure and its kin when there was no agent.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) (status int) {
	var cli commands
	exited := errors.New("exited")
	defer func() {
		if p := recover(); p != nil && p != any(exited) { // of --help, which kong ends by Exit
			panic(p)
		}
	}()
	parser, err := kong.New(&cli,
		kong.Name(name),
		kong.Description("The sidecar of Sallyport: seals a sandbox and adds credentials to its requests."),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { status = code; panic(exited) }),
	)
	if err != nil {
		return fail(stderr, err)
	}
	command, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(stderr, "error: %v\nhint: %s --help\n", err, mistaken(err))
		return supervise.ExitFailure
	}
	command.BindTo(ctx, (*context.Context)(nil))
	queue := logqueue.New(stderr)
	err = command.Run(&environment{
		args: args, getenv: getenv, stdout: stdout, stderr: stderr, logs: queue, level: cli.LogLevel,
		log: slog.New(slog.NewTextHandler(queue, &slog.HandlerOptions{Level: cli.LogLevel})),
	})
	queue.Close()
	if err != nil {
		return fail(stderr, err)
	}
	return 0
}

// fail prints err and gives the exit status.
func fail(stderr io.Writer, err error) int {
	var status exitStatus
	if errors.As(err, &status) {
		return int(status)
	}
	fmt.Fprintln(stderr, "error:", err)
	var f *failure
	if errors.As(err, &f) {
		return f.status
	}
	return supervise.ExitFailure
}

// failure is an error with the exit status that says what kind it is.
type failure struct {
	error
	status int
}

func (f *failure) Unwrap() error { return f.error }

// ended makes an error of an exit status and what went wrong, if anything.
func ended(status int, err error) error {
	switch {
	case err != nil:
		return &failure{err, status}
	case status != 0:
		return exitStatus(status)
	}
	return nil
}

// listen catches what is to be forwarded to the agent.
func listen() (signals chan os.Signal, stop func()) {
	signals = make(chan os.Signal, 64)
	signal.Notify(signals, supervise.Forwarded()...)
	return signals, func() { signal.Stop(signals) }
}

// mistaken is the command whose flags or arguments were wrong, as far as it was understood.
func mistaken(err error) string {
	var parse *kong.ParseError
	if errors.As(err, &parse) && parse.Context != nil && parse.Context.Selected() != nil {
		return parse.Context.Selected().FullPath()
	}
	return name
}
