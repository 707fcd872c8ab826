// Command bench measures what the sidecar adds to a request, a connection, a body
// and the start of a program, beside proxies that others use. Every way asks the
// same origin with the same client, on loopback, in interleaved rounds.
//
// The floor is a proxy that ends TLS and begins it anew and looks at nothing, in
// the same sealed namespace: what any proxy that sees the bytes must cost.
// docs/benchmarks.md says how to read what it prints.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// roles are what this program is besides the one that measures, by its first argument.
var roles = map[string]func([]string) error{
	"origin":  originRole,
	"sealed":  sealedRole,
	"goproxy": goproxyRole,
	"client":  clientRole,
	"stamp":   func([]string) error { _, err := fmt.Println(monotonic()); return err },
}

// options are the flags.
type options struct {
	bin         string
	ways        []string
	measures    []string
	rounds      int
	requests    int
	limit       time.Duration // of one round of one way
	body        int64
	idle        int
	rest        time.Duration // until memory is looked at
	files       uint64        // that a process may have open
	starts      int
	rotations   int
	cores       cores
	out, doc    string
	hold        time.Duration
	connections int
	protocol    string
	audit       string // mode of the team
}

// cores say where to run what; -1 is anywhere.
type cores struct {
	Load    int `json:"load"`    // client and origin
	Proxy   int `json:"proxy"`   // what is measured
	Control int `json:"control"` // control plane and Postgres
}

func parse(args []string) (options, error) {
	o := options{rest: time.Second}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&o.bin, "bin", "bin", "folder of the three programs")
	ways := flags.String("ways", "", "ways to measure, by commas (default: "+strings.Join(names(allWays(), func(y way) string { return y.name }), ",")+")")
	measures := flags.String("measures", "", "measures to take, by commas (default: "+strings.Join(names(allMeasures(), func(m measure) string { return m.name }), ",")+")")
	flags.StringVar(&o.audit, "audit", "best_effort", "the team's audit mode: best_effort, durable or strict")
	flags.IntVar(&o.rounds, "rounds", 9, "rounds; those of large bodies and of idle connections are fewer")
	flags.IntVar(&o.requests, "requests", 4000, "requests a round and way, at most")
	flags.DurationVar(&o.limit, "limit", time.Second, "time of a round and way, at most")
	flags.Int64Var(&o.body, "body", 1<<30, "bytes of a large body")
	flags.IntVar(&o.idle, "idle", 10000, "idle connections, at most")
	flags.IntVar(&o.starts, "starts", 21, "sandboxes started")
	flags.IntVar(&o.rotations, "rotations", 9, "rotations")
	flags.IntVar(&o.cores.Load, "core", 0, "core that everything is pinned to; -1 for no pinning")
	proxyCore := flags.Int("proxy-core", unset, "core of the proxies, if another")
	controlCore := flags.Int("control-core", unset, "core of the control plane and its Postgres (default: another than the proxies', where there is one)")
	flags.StringVar(&o.out, "out", "", "folder for results.json and the plots")
	flags.StringVar(&o.doc, "doc", "", "document whose generated part is written anew")
	quick := flags.Bool("quick", false, "one short round of everything, to see that it works")
	held := flags.String("way", "inject", "the way that -hold loads")
	flags.DurationVar(&o.hold, "hold", 0, "only load one way for so long, to profile its proxy meanwhile")
	flags.IntVar(&o.connections, "connections", 1, "kept connections of -hold, or requests in flight")
	flags.StringVar(&o.protocol, "protocol", "h1", "what -hold speaks: "+strings.Join(wayNamed("inject").protocols, ", ")+" (HTTP/1.1 to an origin of HTTP/2)")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if *quick {
		o.rounds, o.requests, o.limit, o.body, o.idle, o.starts, o.rotations = 1, 200, 300*time.Millisecond, 16<<20, 100, 3, 2
		o.rest = 20 * time.Millisecond
	}
	o.cores.Proxy, o.cores.Control = *proxyCore, *controlCore
	if o.cores.Proxy == unset {
		o.cores.Proxy = o.cores.Load
	}
	if o.cores.Control == unset {
		o.cores.Control = elsewhere(o.cores.Proxy)
	}
	if o.hold > 0 {
		*ways = *held
	}
	var err error
	if o.ways, err = choose(*ways, "way", names(allWays(), func(y way) string { return y.name })); err != nil {
		return o, err
	}
	o.measures, err = choose(*measures, "measure", names(allMeasures(), func(m measure) string { return m.name }))
	return o, err
}

const unset = -2

// elsewhere is a core that the proxies don't have, as the control plane runs on
// another machine than sandboxes do.
func elsewhere(proxies int) int {
	switch {
	case proxies < 0:
		return proxies
	case runtime.NumCPU() > 1:
		return (proxies + 1) % runtime.NumCPU()
	}
	return proxies
}

func run(args []string, out io.Writer) (err error) {
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
	if os.Getuid() != 0 {
		return errors.New("run as root: the floor makes a network namespace")
	}
	if o.files, err = raiseFileLimit(); err != nil {
		return err
	}
	// A proxy may have one on each side for each connection, and some for itself.
	o.idle = min(o.idle, int(o.files)/2-100)
	if err := pin(o.cores.Load); err != nil {
		return err
	}
	undo, err := oneGroup()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, undo()) }()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	w, err := newWorld(ctx, o)
	if err != nil {
		return err
	}
	defer w.Close()
	if o.hold > 0 {
		return holdWay(w, out)
	}
	r := &report{options: o, Machine: machine(o)}
	if err := w.measureAll(r, os.Stderr); err != nil {
		return err
	}
	return errors.Join(r.write(out), r.failed())
}

func names[T any](all []T, name func(T) string) []string {
	var list []string
	for _, one := range all {
		list = append(list, name(one))
	}
	return list
}

func choose(list, what string, known []string) ([]string, error) {
	if list == "" {
		return known, nil
	}
	chosen := strings.Split(list, ",")
	for _, name := range chosen {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("there is no %s %q; there are %s", what, name, strings.Join(known, ", "))
		}
	}
	return chosen, nil
}

// raiseFileLimit is for the thousands of connections of clients, proxies and origin,
// which inherit it. It gives what could be had.
func raiseFileLimit() (uint64, error) {
	const files = 1 << 17
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: files, Max: files}) == nil {
		return files, nil
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("read the limit of open files: %w", err)
	}
	limit.Cur = limit.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("raise the limit of open files: %w", err)
	}
	return limit.Max, nil
}

func pin(core int) error {
	if core < 0 {
		return nil
	}
	var set unix.CPUSet
	set.Set(core)
	// Threads made from now on, and processes, inherit it; those there are don't.
	tasks, err := filepath.Glob("/proc/self/task/*")
	if err != nil {
		return err
	}
	for _, task := range tasks {
		var id int
		if _, err := fmt.Sscan(filepath.Base(task), &id); err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(id, &set); err != nil {
			return fmt.Errorf("pin to core %d: %w", core, err)
		}
	}
	return nil
}

func monotonic() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(fmt.Sprintf("read the monotonic clock: %v", err))
	}
	return t.Nano()
}
