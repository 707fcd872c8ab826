// Command attack runs bodies of attacks, the corpora, and says how many cases held:
//
//	escape   ways out of the sandbox
//	steer    ways to have the credential sent to the wrong place
//	reflect  ways to read the credential in what its own host answers
//	drain    ways to wear out or outlive what guards it
//
// A case is broken when the attack succeeded, or when what is no attack did not work:
// a proxy that carries nothing holds nothing. The program fails when a case is broken.
//
// steer and reflect also run against any other proxy that is told to put a credential
// into requests; docs/attacks.md says how.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "attack:", err)
		os.Exit(1)
	}
}

// corpus is a body of attacks.
type corpus interface {
	name() string
	// run carries out the cases that are chosen, and reports each. It gives an error
	// when it could not.
	run(ctx context.Context, o options, report func(result)) error
}

func corpora() []corpus {
	return []corpus{
		goTests{"escape", "./e2e", "TestEscape"},
		goTests{"drain", "./e2e", "TestDrain"},
	}
}

// result is how one case ended.
type result struct {
	name   string // stable, and readable
	broken string // what was wrong; empty if it held
}

// options are the flags.
type options struct {
	bin     string
	corpora []string
	cases   *regexp.Regexp // nil: all
	pattern string         // of cases
}

func (o options) chosen(name string) bool { return o.cases == nil || o.cases.MatchString(name) }

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("attack", flag.ContinueOnError)
	flags.StringVar(&o.bin, "bin", "bin", "folder of the three programs")
	var known []string
	for _, c := range corpora() {
		known = append(known, c.name())
	}
	chosen := flags.String("corpora", strings.Join(known, ","), "corpora to run, by commas")
	flags.StringVar(&o.pattern, "run", "", "run only the cases whose names match the regular expression")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	o.corpora = strings.Split(*chosen, ",")
	for _, name := range o.corpora {
		if !slices.Contains(known, name) {
			return o, fmt.Errorf("there is no corpus %q; there are %s", name, strings.Join(known, ", "))
		}
	}
	if o.pattern != "" {
		var err error
		if o.cases, err = regexp.Compile(o.pattern); err != nil {
			return o, fmt.Errorf("-run: %w", err)
		}
	}
	return o, nil
}

func run(args []string, out io.Writer) error {
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	t := &table{details: os.Stderr}
	for _, c := range corpora() {
		if !slices.Contains(o.corpora, c.name()) {
			continue
		}
		if err := c.run(ctx, o, t.row(c.name())); err != nil {
			return fmt.Errorf("%s: %w", c.name(), err)
		}
	}
	t.print(out)
	return t.verdict()
}
