// Command sallyport-control is the control plane: it keeps teams, vaults and
// credentials in Postgres, answers admins over REST and sidecars over mutual TLS.
// This package only wires those parts together.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"sallyport/control/datadir"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	stderr, err := quietCrashes(os.Getenv)
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
	status := run(ctx, os.Args[1:], os.Getenv, os.Stdout, stderr)
	stop()
	os.Exit(status)
}

// environment is what a command may use of the process.
type environment struct {
	getenv         func(string) string
	stdout, stderr io.Writer
}

type commands struct {
	Serve   serveCmd   `cmd:"" help:"Run the control plane."`
	Version versionCmd `cmd:"" help:"Print the version."`
}

// run is the whole program: 0 when it did what it should, 1 when that failed,
// 2 when it was called wrongly.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) (status int) {
	var cli commands
	exited := errors.New("exited")
	defer func() {
		if p := recover(); p != nil && p != any(exited) { // of --help, which kong ends by Exit
			panic(p)
		}
	}()
	parser, err := kong.New(&cli,
		kong.Name("sallyport-control"),
		kong.Description("The control plane of Sallyport."),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { status = code; panic(exited) }),
		kong.Vars{"data_dir": datadir.Default(os.Geteuid(), getenv)},
	)
	if err != nil {
		fmt.Fprintln(stderr, "error:", err)
		return 1
	}
	command, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(stderr, "error: %v\nhint: sallyport-control serve --help lists the flags\n", err)
		return 2
	}
	command.BindTo(ctx, (*context.Context)(nil))
	if err := command.Run(&environment{getenv, stdout, stderr}); err != nil {
		fmt.Fprintln(stderr, "error:", err)
		var h *hintError
		if errors.As(err, &h) {
			fmt.Fprintln(stderr, "hint:", h.hint)
		}
		return 1
	}
	return 0
}

// hintError is an error with what to do about it.
type hintError struct {
	error
	hint string
}

func (e *hintError) Unwrap() error { return e.error }

func withHint(err error, format string, args ...any) error {
	return &hintError{err, fmt.Sprintf(format, args...)}
}
