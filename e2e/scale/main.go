// Scale holds many sidecar sessions against one replica of the control plane: each a
// real identity with a connection of its own, mutual TLS and the stream that
// follows its bindings. It measures what they cost, how soon a rotation has
// reached all of them, how they come back when the control plane was restarted,
// and how fast material is fetched. With -against it measures two builds in turn,
// with the same sidecars.
//
//	go run ./e2e/scale -sessions 10000
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/e2e/stage"
)

type options struct {
	bin       string
	against   string
	rounds    int
	sessions  int
	agents    int
	holders   int
	rotations int
	fetchers  int
	fetching  time.Duration
	core      int
	holding   int
	report    string
}

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", "bin", "folder of the three programs")
	flag.StringVar(&o.against, "against", "", "folder of those of another build, which is measured first in each round")
	flag.IntVar(&o.rounds, "rounds", 1, "how often all is measured, each time with a control plane started anew")
	flag.IntVar(&o.sessions, "sessions", 10_000, "sidecars")
	flag.IntVar(&o.agents, "agents", 1, "agents that the sidecars are of, in turn")
	flag.IntVar(&o.holders, "holders", 2, "processes that hold the sidecars; they connect by IPv4 and by IPv6 in turn")
	flag.IntVar(&o.rotations, "rotations", 5, "rotations, each waited for")
	flag.IntVar(&o.fetchers, "fetchers", 64, "calls of Fetch at once")
	flag.DurationVar(&o.fetching, "fetching", 10*time.Second, "how long to call Fetch")
	flag.IntVar(&o.core, "control-core", 1, "core of the control plane and its Postgres; -1 for any")
	flag.IntVar(&o.holding, "holders-core", 0, "core of the processes that hold the sidecars; -1 for any")
	flag.StringVar(&o.report, "report", "", "file that the figures are written to, beside standard output")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	var err error
	if flag.Arg(0) == holdCommand {
		err = hold(ctx)
	} else {
		err = run(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	out := io.Writer(os.Stdout)
	if o.report != "" {
		file, err := os.Create(o.report)
		if err != nil {
			return err
		}
		defer file.Close()
		out = io.MultiWriter(os.Stdout, file)
	}
	// An address may hold half of what the control plane takes, and there are two.
	if err := allowFiles(o.sessions + o.sessions/8 + 1000); err != nil {
		return err
	}
	s, err := stage.New(ctx, "scale", o.bin)
	if err != nil {
		return err
	}
	defer s.Close()
	s.Everywhere = true
	if err := s.StartControl(-1); err != nil {
		return err
	}
	f := &fleet{options: o, stage: s, out: out}
	defer f.close()
	return f.measure(ctx)
}

// allowFiles makes sure that this process, and those it starts, may have n descriptors.
func allowFiles(n int) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if limit.Cur >= uint64(n) {
		return nil
	}
	limit.Cur, limit.Max = uint64(n), max(limit.Max, uint64(n))
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("allow %d descriptors: %w", n, err)
	}
	return nil
}
