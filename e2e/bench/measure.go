package main

import (
	"bytes"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// measure is one thing that is asked of every way that can do it.
type measure struct {
	name, title string
	protocol    string // that a way must speak
	columns     []column
	rounds      int  // at most; 0 is no limit
	alone       bool // each round in an instance of its own
	take        func(w *world, i *instance) (values, error)
}

// values are what one round of one way gave, by key. Times are in seconds, sizes in bytes.
type values map[string]float64

// column is one of a measure's values, in the unit it is shown in.
type column struct {
	key, title, unit string
	scale            float64
}

var (
	rate      = column{"rate", "requests/s", "", 1}
	median50  = column{"p50", "p50", "µs", 1e6}
	highest99 = column{"p99", "p99", "µs", 1e6}
	perCPU    = column{"cpu", "proxy CPU a request", "µs", 1e6}
	speed     = column{"speed", "throughput", "MB/s", 1e-6}
	grown     = column{"peak", "greatest memory", "MiB", 1.0 / (1 << 20)}
)

func allMeasures() []measure {
	loads := []column{rate, median50, highest99, perCPU}
	conns := []column{{"rate", "connections/s", "", 1}, median50, highest99, {"cpu", "proxy CPU a connection", "µs", 1e6}}
	return []measure{
		{"keep1", "HTTP/1.1, one kept connection", "h1", loads, 0, false, load("h1", 1)},
		{"keep64", "HTTP/1.1, 64 kept connections", "h1", loads, 0, false, load("h1", 64)},
		{"h1h2", "HTTP/1.1 from the client to an origin of HTTP/2 only, one kept connection", "h1h2", loads, 0, false, load("h1h2", 1)},
		{"h2", "HTTP/2, one connection, 64 requests in flight", "h2", loads, 0, false, load("h2", 64)},
		{"grpc", "gRPC-like: 64 streams on one connection, 1 KiB messages there and back", "grpc",
			[]column{{"rate", "messages/s", "", 1}, median50, highest99, {"cpu", "proxy CPU a message", "µs", 1e6}}, 0, false, load("grpc", 64)},
		{"known", "a new connection for each request, to a known host", "h1", conns, 0, false, open("api.")},
		{"fresh", "the same, to a known host that ends its own connection too", "h1", conns, 0, false, open(closingHost + ".")},
		{"new", "a new connection for each request, each to a new host", "h1", conns, 0, false, open("n%d.")},
		{"idle", "idle connections, each asked over once", "h1", []column{
			{"0", "memory at 0", "MiB", 1.0 / (1 << 20)}, {"1000", "at 1,000", "MiB", 1.0 / (1 << 20)},
			{"most", "at most", "MiB", 1.0 / (1 << 20)}, {"connections", "which is connections", "", 1}, {"each", "a connection", "KiB", 1.0 / (1 << 10)}}, 1, true, idle},
		{"down", "a large body to the client", "h1", []column{speed, grown}, 3, true, body("down")},
		{"up", "a large body to the origin", "h1", []column{speed, grown}, 3, true, body("up")},
		{"start", "from exec to the program's first line", "start", []column{{"bare", "bare", "ms", 1e3}, {"sandbox", "in a sandbox", "ms", 1e3}}, 0, false, nil},
		{"rotate", "rotation, as rotate --wait returns", "rotate", []column{
			{"stale", "requests with the old value", "", 1}, {"fresh", "with the new", "", 1}, {"took", "rotate took", "ms", 1e3}}, 0, false, nil},
	}
}

// sample is one round of one way.
type sample struct {
	Measure string `json:"measure"`
	Way     string `json:"way"`
	Round   int    `json:"round"`
	Values  values `json:"values"`
}

// measureAll takes every chosen measure. What it does goes to progress.
func (w *world) measureAll(r *report, progress io.Writer) error {
	if err := w.tryWays(); err != nil {
		return err
	}
	for _, m := range allMeasures() {
		if !slices.Contains(w.measures, m.name) {
			continue
		}
		begun := time.Now()
		var err error
		switch m.name {
		case "start":
			err = w.measureStarts(r)
		case "rotate":
			err = w.measureRotations(r)
		default:
			err = w.measureWays(m, r)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		fmt.Fprintf(progress, "bench: %s took %.0f s\n", m.name, time.Since(begun).Seconds())
	}
	return nil
}

// tryWays starts each way and asks once, so that what is missing is said at once.
func (w *world) tryWays() error {
	for _, y := range w.chosenWays() {
		i, err := w.start(y)
		if err != nil {
			return err
		}
		_, err = load("h1", 1)(w, i)
		i.stop()
		if err != nil {
			return fmt.Errorf("%s: %w", y.name, err)
		}
	}
	return nil
}

// measureWays takes one measure of every way, in interleaved rounds. The first warms
// up, unless each round is in an instance of its own. What fails is reported, and does
// not keep the others from being measured.
func (w *world) measureWays(m measure, r *report) error {
	rounds, first := w.rounds, 0
	if m.rounds > 0 {
		rounds = min(rounds, m.rounds)
	}
	if m.alone {
		first = 1
	}
	running := map[string]*instance{}
	defer func() {
		for _, i := range running {
			i.stop()
		}
	}()
	ways := slices.DeleteFunc(w.chosenWays(), func(y way) bool { return !slices.Contains(y.protocols, m.protocol) })
	for round := first; round <= rounds; round++ {
		for _, y := range ways {
			if err := w.ctx.Err(); err != nil {
				return err
			}
			if m.alone || round == first {
				i, err := w.start(y)
				if err != nil {
					r.fail(m.name, y, round, err)
					continue
				}
				running[y.name] = i
			}
			i := running[y.name]
			if i == nil {
				continue // it failed before
			}
			got, err := m.take(w, i)
			switch {
			case err != nil:
				r.fail(m.name, y, round, err)
			case round > 0:
				r.add(sample{m.name, y.name, round, got})
			}
			if m.alone || err != nil {
				i.stop()
				delete(running, y.name)
			}
		}
	}
	return nil
}

// costing does a job and gives what it cost the proxy for each request.
func costing(i *instance, j job) (values, error) {
	pids := i.proxies()
	before := cpu(pids)
	result, err := i.client.do(j)
	if err != nil {
		return nil, err
	}
	n := float64(result.Requests)
	got := values{"rate": n / result.Elapsed.Seconds(), "p50": result.P50.Seconds(), "p99": result.P99.Seconds()}
	if i.root != 0 {
		got["cpu"] = (cpu(i.proxies()) - before).Seconds() / n
	}
	return got, nil
}

func load(protocol string, connections int) func(*world, *instance) (values, error) {
	return func(w *world, i *instance) (values, error) {
		return costing(i, job{Do: "load", Protocol: clientProtocol(protocol), Name: i.host(protocol), Connections: connections,
			Requests: w.requests, Limit: w.limit, Want: i.want(protocol)})
	}
}

func open(prefix string) func(*world, *instance) (values, error) {
	return func(w *world, i *instance) (values, error) {
		return costing(i, job{Do: "open", Protocol: "h1", Name: prefix + i.zone, Connections: 1,
			Requests: max(1, w.requests/8), Limit: w.limit, Want: i.want("h1")})
	}
}

// idle holds ever more connections. The memory is looked at when it has come to rest.
func idle(w *world, i *instance) (values, error) {
	if _, err := i.client.do(job{Do: "load", Protocol: "h1", Name: i.host("h1"), Connections: 1, Requests: 1, Limit: w.limit, Want: i.want("h1")}); err != nil {
		return nil, err
	}
	rest := func() float64 { time.Sleep(w.rest); return memory(i.proxies()) }
	got := values{"0": rest()}
	most := w.options.idle
	if i.way.idle > 0 {
		most = min(most, i.way.idle)
	}
	for _, n := range slices.Compact([]int{min(1000, most), most}) {
		result, err := i.client.do(job{Do: "hold", Name: i.host("h1"), Connections: n, Limit: 2 * time.Minute})
		if err != nil {
			return nil, err
		}
		if result.Open < n {
			return nil, fmt.Errorf("%d of %d connections in %v", result.Open, n, result.Elapsed)
		}
		now := rest()
		if n == 1000 {
			got["1000"] = now
		}
		got["most"], got["connections"], got["each"] = now, float64(n), (now-got["0"])/float64(n)
	}
	_, err := i.client.do(job{Do: "drop"})
	return got, err
}

func body(direction string) func(*world, *instance) (values, error) {
	return func(w *world, i *instance) (values, error) {
		// A first one, small, so that the peak is of the body and not of the beginning.
		j := job{Do: direction, Name: i.host("h1"), Body: 1 << 20}
		if _, err := i.client.do(j); err != nil {
			return nil, err
		}
		pids := i.proxies()
		if err := forgetPeak(pids); err != nil {
			return nil, err
		}
		j.Body = w.body
		result, err := i.client.do(j)
		if err != nil {
			return nil, err
		}
		got := values{"speed": float64(w.body) / result.Elapsed.Seconds()}
		if i.root != 0 {
			got["peak"] = peak(pids)
		}
		return got, nil
	}
}

// measureStarts asks how long a program takes to its first line, bare and in a sandbox.
func (w *world) measureStarts(r *report) error {
	for n := range w.starts {
		bare, err := w.stamped([]string{w.Self, "stamp"})
		if err != nil {
			return err
		}
		command, err := w.sandboxed(w.Self, "stamp")
		if err != nil {
			return err
		}
		sandboxed, err := w.stamped(command)
		if err != nil {
			return err
		}
		r.add(sample{"start", "inject", n + 1, values{"bare": bare.Seconds(), "sandbox": sandboxed.Seconds()}})
	}
	return nil
}

func (w *world) stamped(command []string) (time.Duration, error) {
	begun := monotonic()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(w.ctx, command[0], command[1:]...)
	cmd.Dir, cmd.Stderr = w.Dir, &stderr
	output, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("%s: %w\n%s", strings.Join(command, " "), err, &stderr)
	}
	at, err := strconv.ParseInt(strings.TrimSpace(string(output)), 10, 64)
	return time.Duration(at - begun), err
}
