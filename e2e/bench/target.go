package main

import (
	"fmt"
	"io"
	"math"
	"strings"
)

// target is a line of what the design wants.
type target struct {
	what string
	want string
	// got is the figure that is held against most, or least.
	got         func(r *report) float64
	most, least float64
	unit        string
}

// ratio is of the medians of one key of two ways.
func ratio(measure, key, one, other string) func(*report) float64 {
	return func(r *report) float64 { return r.median(measure, one, key) / r.median(measure, other, key) }
}

func scaled(measure, way, key string, scale float64) func(*report) float64 {
	return func(r *report) float64 { return r.median(measure, way, key) * scale }
}

func allTargets() []target {
	none := math.Inf(1)
	return []target{
		{"CPU a request, HTTP/1.1, one connection", "at most 1.5 × floor", ratio("keep1", "cpu", "inject", "floor"), 1.5, 0, "×"},
		{"CPU a request, HTTP/1.1, 64 connections", "at most 1.5 × floor", ratio("keep64", "cpu", "inject", "floor"), 1.5, 0, "×"},
		{"p50, one connection", "at most 1.3 × floor", ratio("keep1", "p50", "inject", "floor"), 1.3, 0, "×"},
		{"CPU a request, one connection", "at most 0.5 × goproxy", ratio("keep1", "cpu", "inject", "goproxy"), 0.5, 0, "×"},
		{"requests/s, 64 connections", "more than goproxy", ratio("keep64", "rate", "inject", "goproxy"), none, 1, "×"},
		{"requests/s, 64 connections", "at least 3 × squid", ratio("keep64", "rate", "inject", "squid"), none, 3, "×"},
		{"requests/s, 64 connections", "at least 20 × mitmproxy", ratio("keep64", "rate", "inject", "mitmproxy"), none, 20, "×"},
		{"CPU a request, HTTP/2, 64 in flight", "at most 1.5 × Go's ReverseProxy", ratio("h2", "cpu", "inject", "reverse"), 1.5, 0, "×"},
		{"p50, HTTP/2, 64 in flight", "at most 1.5 × Go's ReverseProxy", ratio("h2", "p50", "inject", "reverse"), 1.5, 0, "×"},
		{"CPU a message, 64 gRPC-like streams", "at most 1.5 × Go's ReverseProxy", ratio("grpc", "cpu", "inject", "reverse"), 1.5, 0, "×"},
		{"p50, 64 gRPC-like streams", "at most 1.5 × Go's ReverseProxy", ratio("grpc", "p50", "inject", "reverse"), 1.5, 0, "×"},
		{"a new host's leaf, p50", "at most 0.3 ms more than a known host with a new connection upstream", func(r *report) float64 {
			return (r.median("new", "inject", "p50") - r.median("fresh", "inject", "p50")) * 1e3
		}, 0.3, math.Inf(-1), "ms"},
		{"new connections/s, known host", "no lower than goproxy's", ratio("known", "rate", "inject", "goproxy"), none, 1, "×"},
		{"new connections/s, new hosts", "no lower than goproxy's", ratio("new", "rate", "inject", "goproxy"), none, 1, "×"},
		{"a large body to the client", "at least 0.9 × floor", ratio("down", "speed", "inspect", "floor"), none, 0.9, "×"},
		{"the same, with a credential injected", "at least 0.9 × floor", ratio("down", "speed", "inject", "floor"), none, 0.9, "×"},
		{"a large body to the origin", "at least 0.9 × floor", ratio("up", "speed", "inspect", "floor"), none, 0.9, "×"},
		{"the same, with a credential injected", "at least 0.9 × floor", ratio("up", "speed", "inject", "floor"), none, 0.9, "×"},
		{"passed through, requests/s, 64 connections", "at least 0.95 × splice", ratio("keep64", "rate", "passthrough", "splice"), none, 0.95, "×"},
		{"passed through, a large body to the client", "at least 0.95 × splice", ratio("down", "speed", "passthrough", "splice"), none, 0.95, "×"},
		{"passed through, a large body to the origin", "at least 0.95 × splice", ratio("up", "speed", "passthrough", "splice"), none, 0.95, "×"},
		{"memory, idle", "under 25 MiB", scaled("idle", "inject", "0", 1.0/(1<<20)), 25, 0, "MiB"},
		{"memory of an idle intercepted connection", "under 20 KiB", scaled("idle", "inject", "each", 1.0/(1<<10)), 20, 0, "KiB"},
		{"start of a sandbox", "under 60 ms", scaled("start", "inject", "sandbox", 1e3), 60, 0, "ms"},
		{"requests with the old value after rotate --wait", "0", func(r *report) float64 {
			all := r.figures("rotate", "inject", "stale")
			if len(all) == 0 {
				return math.NaN()
			}
			return all[len(all)-1]
		}, 0, 0, ""},
	}
}

// targets says for each whether it is met.
func (r *report) targets(out io.Writer) {
	fmt.Fprint(out, "\n### Targets\n\n| what | target | measured | |\n| --- | --- | --- | --- |\n")
	for _, t := range allTargets() {
		got := t.got(r)
		if math.IsNaN(got) {
			continue
		}
		verdict := "met"
		if got > t.most || got < t.least {
			verdict = "**not met**"
		}
		fmt.Fprintf(out, "| %s | %s | %s | %s |\n", t.what, t.want, strings.TrimSpace(number(got)+" "+t.unit), verdict)
	}
}
