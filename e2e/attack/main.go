// Command attack runs bodies of attacks, the corpora, and says how many cases held:
//
//	escape   ways out of the sandbox
//	steer    ways to have the credential sent to the wrong place
//	reflect  ways to read the credential in what its own host answers
//	drain    ways to wear out or outlive what guards it
//	smuggle  requests that servers read in other ways than the sidecar
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
		goTests{corpus: "escape", pkg: "./e2e/outside", prefix: "TestEscape"},
		staged{"steer", steer},
		staged{"reflect", reflect},
		goTests{corpus: "drain", pkg: "./e2e/outside", prefix: "TestDrain", flags: func(o options) []string { return []string{fmt.Sprint("-kills=", o.kills)} }},
		goTests{corpus: "smuggle", pkg: "./e2e/smuggle", prefix: "TestOneReading"},
	}
}

// staged is a corpus of this program, in a world of its own.
type staged struct {
	corpus string
	cases  func(ctx context.Context, w *world, o options, report func(result)) error
}

func (s staged) name() string { return s.corpus }

func (s staged) run(ctx context.Context, o options, report func(result)) error {
	w, err := newWorld(ctx, o)
	if err != nil {
		return err
	}
	defer w.close()
	return s.cases(ctx, w, o, report)
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
	sample  int            // cases of a corpus; 0: all
	seed    uint64
	kills   int  // of the worker, in each case of drain
	http1   bool // no HTTP/2 of clients

	bound, elsewhere string // IP addresses of the origins
	authority        string // folder; empty: a new one
	foreign          foreign
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
	chosen := flags.String("corpora", "", "corpora to run, by commas (default: "+strings.Join(known, ",")+"; with -target steer,reflect)")
	flags.StringVar(&o.pattern, "run", "", "run only the cases whose names match the regular expression")
	flags.IntVar(&o.sample, "sample", 0, "run only so many cases of steer and of reflect, chosen by chance; 0 for all")
	flags.Uint64Var(&o.seed, "seed", 1, "what -sample chooses by")
	flags.IntVar(&o.kills, "kills", 50, "how often drain kills the worker in each mode of audit, and other parts in proportion")
	flags.StringVar(&o.bound, "origin", fmt.Sprintf("127.89.%d.%d", os.Getpid()>>8&0xff, os.Getpid()&0xff), "address of loopback for the hosts with a credential, and DNS for all names at port 53")
	flags.StringVar(&o.elsewhere, "elsewhere", fmt.Sprintf("127.90.%d.%d", os.Getpid()>>8&0xff, os.Getpid()&0xff), "address of loopback for all other hosts")
	flags.StringVar(&o.authority, "authority", "", "folder of the origins' authority, ca.pem, made if it isn't there")
	flags.StringVar(&o.foreign.url, "target", "", "attack this proxy, http://HOST:PORT, instead of Sallyport")
	flags.StringVar(&o.foreign.hosts, "hosts", boundHost, "hosts the target has the secret for, by commas; those that begin with h2 are served over HTTP/2 only")
	flags.StringVar(&o.foreign.secret, "secret", "", "the target puts it into requests: as a bearer token, or")
	flags.StringVar(&o.foreign.user, "user", "", "by Basic, as the password of this user")
	flags.StringVar(&o.foreign.ca, "target-ca", "", "PEM file of the authority that the target signs with")
	flags.BoolVar(&o.http1, "http1", false, "leave out the cases of steer and of reflect in which the client speaks HTTP/2")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	switch {
	case *chosen == "" && o.foreign.url == "":
		*chosen = strings.Join(known, ",")
	case *chosen == "":
		*chosen = "steer,reflect"
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

// roles are what this program is besides the one that attacks, by its first argument.
var roles = map[string]func([]string) error{"agent": agentRole}

func run(args []string, out io.Writer) error {
	if len(args) > 0 {
		if role := roles[args[0]]; role != nil {
			return role(args[1:])
		}
	}
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
	var errs []error
	for _, c := range corpora() {
		if !slices.Contains(o.corpora, c.name()) {
			continue
		}
		if err := c.run(ctx, o, t.row(c.name())); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.name(), err))
		}
	}
	t.print(out)
	return errors.Join(append(errs, t.verdict())...)
}
