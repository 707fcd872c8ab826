// Command bench measures what the sidecar adds to a request and to the start of
// a program. All of it runs on loopback and pinned to one core, interleaved: a
// round asks the origin directly, through the floor and through a sidecar.
//
// The floor is a proxy that ends TLS and begins it anew and looks at nothing, in
// the same sealed namespace: what any proxy that sees the bytes must cost.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case "origin":
			return origin(args[1:])
		case "floor":
			return floor(args[1:])
		case "client":
			return client(args[1:])
		case "stamp":
			_, err := fmt.Fprintln(out, monotonic())
			return err
		}
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	bin := flags.String("bin", "bin", "folder of the three programs")
	rounds := flags.Int("rounds", 9, "rounds")
	requests := flags.Int("requests", 4000, "requests a round and way")
	starts := flags.Int("starts", 21, "sandboxes started")
	core := flags.Int("core", 0, "core that everything is pinned to; -1 for no pinning")
	held := flags.String("way", "sidecar", "the way that -hold loads")
	hold := flags.Duration("hold", 0, "only load one way for so long, to profile its proxy meanwhile")
	connections := flags.Int("connections", 1, "kept connections of -hold")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if os.Getuid() != 0 {
		return errors.New("run as root: the floor makes a network namespace")
	}
	if err := pin(*core); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	w, err := newWorld(ctx, *bin)
	if err != nil {
		return err
	}
	defer w.close()
	if *hold > 0 {
		return holdWay(w, *held, *hold, *connections, out)
	}
	if err := measureRequests(w, *rounds, *requests, out); err != nil {
		return err
	}
	return measureStarts(w, *starts, out)
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

// sample is what one round of one way gave.
type sample struct {
	P50 time.Duration `json:"p50"`
	P99 time.Duration `json:"p99"`
	cpu time.Duration // of the proxy, a request
}

// holdWay loads one way and says each second or so what it costs.
func holdWay(w *world, name string, hold time.Duration, connections int, out io.Writer) error {
	ways, err := w.ways()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(ways, func(y way) bool { return y.name == name })
	if i < 0 {
		return fmt.Errorf("there is no way %q", name)
	}
	if _, err := ways[i].measure(connections, connections); err != nil { // so that the proxy is there
		return err
	}
	fmt.Fprintln(out, "proxy's pid:", ways[i].proxies())
	const requests = 8192
	for end := time.Now().Add(hold); time.Now().Before(end); {
		begun := time.Now()
		s, err := ways[i].measure(requests, connections)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%.0f requests/s, p50 %v, p99 %v, proxy CPU a request %v\n", requests/time.Since(begun).Seconds(), s.P50, s.P99, s.cpu)
	}
	return nil
}

func measureRequests(w *world, rounds, requests int, out io.Writer) error {
	ways, err := w.ways()
	if err != nil {
		return err
	}
	got := map[string][]sample{}
	for round := range rounds + 1 { // the first warms up
		for _, way := range ways {
			s, err := way.measure(requests, 1)
			if err != nil {
				return fmt.Errorf("%s: %w", way.name, err)
			}
			if round > 0 {
				got[way.name] = append(got[way.name], s)
			}
		}
	}
	fmt.Fprintf(out, "one connection, %d rounds of %d requests, medians (least to greatest)\n", rounds, requests)
	fmt.Fprintf(out, "%-8s %32s %32s %32s\n", "way", "p50", "p99", "proxy CPU a request")
	for _, way := range ways {
		s := got[way.name]
		fmt.Fprintf(out, "%-8s %32s %32s %32s\n", way.name,
			spread(s, func(s sample) time.Duration { return s.P50 }),
			spread(s, func(s sample) time.Duration { return s.P99 }),
			spread(s, func(s sample) time.Duration { return s.cpu }))
	}
	ratio := func(of func(sample) time.Duration) float64 {
		return float64(median(got["sidecar"], of)) / float64(median(got["floor"], of))
	}
	fmt.Fprintf(out, "sidecar / floor: p50 %.2f, CPU %.2f\n\n", ratio(func(s sample) time.Duration { return s.P50 }), ratio(func(s sample) time.Duration { return s.cpu }))
	return nil
}

func measureStarts(w *world, n int, out io.Writer) error {
	var bare, sealed []sample
	for range n {
		b, err := w.start()
		if err != nil {
			return err
		}
		s, err := w.startInSandbox()
		if err != nil {
			return err
		}
		bare, sealed = append(bare, sample{P50: b}), append(sealed, sample{P50: s})
	}
	p50 := func(s sample) time.Duration { return s.P50 }
	fmt.Fprintf(out, "from exec to the program's first line, %d starts, medians (least to greatest)\n", n)
	fmt.Fprintf(out, "%-8s %32s\n%-8s %32s\n", "bare", spread(bare, p50), "sandbox", spread(sealed, p50))
	return nil
}

func sorted(samples []sample, of func(sample) time.Duration) []time.Duration {
	var values []time.Duration
	for _, s := range samples {
		values = append(values, of(s))
	}
	slices.Sort(values)
	return values
}

func median(samples []sample, of func(sample) time.Duration) time.Duration {
	return sorted(samples, of)[len(samples)/2]
}

func spread(samples []sample, of func(sample) time.Duration) string {
	values := sorted(samples, of)
	us := func(d time.Duration) string { return fmt.Sprintf("%.0f", float64(d)/1e3) }
	return fmt.Sprintf("%s µs (%s to %s)", us(values[len(values)/2]), us(values[0]), us(values[len(values)-1]))
}

func decode(line string) (s sample, err error) {
	err = json.Unmarshal([]byte(line), &s)
	return s, err
}
