package main

import (
	"bytes"
	"fmt"
	"math"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// bars is a plot of one or two figures a way.
type bars struct {
	file, title, axis string
	measure           string
	series            []column
	log               bool
}

func allBars() []bars {
	return []bars{
		{"cpu.svg", "Proxy CPU a request, one kept HTTP/1.1 connection", "µs", "keep1", []column{perCPU}, true},
		{"latency.svg", "Latency, one kept HTTP/1.1 connection", "µs", "keep1", []column{median50, highest99}, true},
		{"rate.svg", "Requests a second, 64 kept HTTP/1.1 connections", "requests/s", "keep64", []column{rate}, false},
		{"h2.svg", "Requests a second, HTTP/2, 64 in flight", "requests/s", "h2", []column{rate}, false},
		{"connections.svg", "New connections a second, known host", "connections/s", "known", []column{rate}, false},
		{"body.svg", "Throughput of a large body to the client", "MB/s", "down", []column{speed}, false},
	}
}

// plot is a picture that gnuplot draws.
type plot struct{ file, title, script string }

// plots are of what was measured.
func (r *report) plots() []plot {
	all := []plot{{"memory.svg", "Memory of the proxy with idle connections", r.memoryLines()}}
	for _, b := range allBars() {
		all = append(all, plot{b.file, b.title, r.bars(b)})
	}
	return slices.DeleteFunc(all, func(p plot) bool { return p.script == "" })
}

func (p plot) draw(dir string) error {
	file := filepath.Join(dir, p.file)
	cmd := exec.Command("gnuplot")
	cmd.Stdin = strings.NewReader(fmt.Sprintf("set terminal svg size 1000,420 font 'sans-serif,12' background '#ffffff'\nset output %q\nset title %q\nset grid ytics lc '#dddddd'\nset border 3\nset tics nomirror\n%s", file, p.title, p.script))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("gnuplot, for %s ('scripts/setup bench' installs it): %w\n%s", file, err, &stderr)
	}
	return nil
}

// bars draws the medians with whiskers from the least to the greatest.
func (r *report) bars(b bars) string {
	var script, rows strings.Builder
	any := false
	for _, y := range r.ways(b.measure) {
		fmt.Fprintf(&rows, "%q", y)
		for _, c := range b.series {
			all := r.figures(b.measure, y, c.key)
			if len(all) == 0 {
				fmt.Fprint(&rows, " NaN NaN NaN")
				continue
			}
			any = true
			fmt.Fprintf(&rows, " %g %g %g", all[len(all)/2]*c.scale, all[0]*c.scale, all[len(all)-1]*c.scale)
		}
		rows.WriteByte('\n')
	}
	if !any {
		return ""
	}
	fmt.Fprintf(&script, "$data << END\n%sEND\nset style data histogram\nset style histogram errorbars gap 1 lw 1\nset style fill solid 0.85\nset boxwidth 0.9\nset ylabel %q\nset yrange [%s:*]\n",
		rows.String(), b.axis, map[bool]string{true: "1", false: "0"}[b.log])
	if b.log {
		script.WriteString("set logscale y\n")
	}
	if len(b.series) == 1 {
		script.WriteString("unset key\n")
	}
	for i, c := range b.series {
		at := 2 + 3*i
		fmt.Fprintf(&script, "%s $data using %d:%d:%d:xtic(1) title %q lc '%s'", map[bool]string{true: "plot", false: ","}[i == 0], at, at+1, at+2, c.title, []string{"#2a6f97", "#e07a5f"}[i%2])
	}
	return script.String() + "\n"
}

// memoryLines draws memory over connections, a line a way.
func (r *report) memoryLines() string {
	var data, lines strings.Builder
	for _, y := range r.ways("idle") {
		var points strings.Builder
		for _, at := range []struct {
			key         string
			connections float64
		}{{"0", 0}, {"1000", 1000}, {"most", r.median("idle", y, "connections")}} {
			if v := r.median("idle", y, at.key); !math.IsNaN(v) && y != "direct" {
				fmt.Fprintf(&points, "%g %g\n", at.connections, v/(1<<20))
			}
		}
		if points.Len() == 0 {
			continue
		}
		fmt.Fprintf(&data, "$%s << END\n%sEND\n", y, points.String())
		if lines.Len() > 0 {
			lines.WriteString(", ")
		}
		fmt.Fprintf(&lines, "$%s using 1:2 with linespoints lw 2 title %q", y, y)
	}
	if lines.Len() == 0 {
		return ""
	}
	return data.String() + "set xlabel 'idle connections'\nset ylabel 'MiB'\nset key outside right\nset yrange [0:*]\nplot " + lines.String() + "\n"
}
