package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// report is what was measured. It is written as results.json as it is.
type report struct {
	options  options
	Machine  description `json:"machine"`
	Rounds   int         `json:"rounds"`
	Failures []failure   `json:"failures"`
	Samples  []sample    `json:"samples"`
}

// failure is a round of a way that gave no figures.
type failure struct {
	Measure string `json:"measure"`
	Way     string `json:"way"`
	Round   int    `json:"round"`
	Error   string `json:"error"`
	foreign bool
}

// description says on what and with what it was measured.
type description struct {
	When     time.Time         `json:"when"`
	CPU      string            `json:"cpu"`
	Cores    int               `json:"cores"`
	Kernel   string            `json:"kernel"`
	Pinned   cores             `json:"pinned_to_core"`
	Versions map[string]string `json:"versions"`
}

func machine(o options) description {
	d := description{When: time.Now().UTC().Truncate(time.Second), Pinned: o.cores, Versions: map[string]string{"go": runtime.Version()}}
	info, _ := os.ReadFile("/proc/cpuinfo") // unknown is all right
	for line := range strings.Lines(string(info)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			d.CPU, d.Cores = strings.TrimSpace(value), d.Cores+1
		}
	}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		d.Kernel = unix.ByteSliceToString(uts.Release[:])
	}
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, module := range build.Deps {
			if module.Path == "github.com/elazarl/goproxy" {
				d.Versions["goproxy"] = module.Version
			}
		}
	}
	for name, command := range map[string][]string{
		"squid": {"squid", "-v"}, "mitmproxy": {"mitmdump", "--version"}, "smokescreen": {".cache/bin/smokescreen", "--version"},
		"sallyport": {filepath.Join(o.bin, "sallyport"), "version"},
	} {
		if output, err := exec.Command(command[0], command[1:]...).Output(); err == nil {
			first, _, _ := strings.Cut(string(output), "\n")
			d.Versions[name] = strings.TrimPrefix(first, versionPrefix[name])
		}
	}
	return d
}

// versionPrefix is what programs print before their version.
var versionPrefix = map[string]string{
	"squid": "Squid Cache: Version ", "mitmproxy": "Mitmproxy: ", "smokescreen": "smokescreen version ", "sallyport": "sallyport ",
}

func (r *report) add(s sample) { r.Samples = append(r.Samples, s) }

func (r *report) fail(measure string, y way, round int, err error) {
	r.Failures = append(r.Failures, failure{measure, y.name, round, err.Error(), y.foreign})
}

// failed is the first failure of what is not somebody else's program, or nil.
func (r *report) failed() error {
	for _, f := range r.Failures {
		if !f.foreign {
			return fmt.Errorf("%s of %s, round %d: %s", f.Measure, f.Way, f.Round, f.Error)
		}
	}
	return nil
}

// figures are the values of one key, in order, of all rounds.
func (r *report) figures(measure, way, key string) []float64 {
	var all []float64
	for _, s := range r.Samples {
		if value, found := s.Values[key]; found && s.Measure == measure && s.Way == way {
			all = append(all, value)
		}
	}
	slices.Sort(all)
	return all
}

// median is NaN where nothing was measured.
func (r *report) median(measure, way, key string) float64 {
	all := r.figures(measure, way, key)
	if len(all) == 0 {
		return math.NaN()
	}
	return all[len(all)/2]
}

// ways are those that a measure has figures of.
func (r *report) ways(measure string) []string {
	return slices.DeleteFunc(names(allWays(), func(y way) string { return y.name }), func(name string) bool {
		return !slices.ContainsFunc(r.Samples, func(s sample) bool { return s.Measure == measure && s.Way == name })
	})
}

// write prints the tables and writes the files that the flags ask for.
func (r *report) write(out io.Writer) error {
	r.Rounds = r.options.rounds
	var text bytes.Buffer
	r.tables(&text)
	if _, err := out.Write(text.Bytes()); err != nil {
		return err
	}
	if dir := r.options.out; dir != "" {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := r.writeResults(filepath.Join(dir, "results.json")); err != nil {
			return err
		}
		for _, p := range r.plots() {
			if err := p.draw(dir); err != nil {
				return err
			}
		}
	}
	if r.options.doc == "" {
		return nil
	}
	if err := r.show(&text); err != nil {
		return err
	}
	return replace(r.options.doc, text.String())
}

// show puts the plots into the document.
func (r *report) show(out io.Writer) error {
	if r.options.out == "" {
		return nil
	}
	dir, err := filepath.Rel(filepath.Dir(r.options.doc), r.options.out)
	if err != nil {
		return fmt.Errorf("name the plots in the document: %w", err)
	}
	fmt.Fprint(out, "\n### Plots\n\n")
	for _, p := range r.plots() {
		fmt.Fprintf(out, "![%s](%s)\n", p.title, path.Join(filepath.ToSlash(dir), p.file))
	}
	return nil
}

// writeResults writes a sample a line, so that two runs can be compared by diff.
func (r *report) writeResults(file string) error {
	machine, err := json.MarshalIndent(r.Machine, "  ", "  ")
	if err != nil {
		return err
	}
	var text bytes.Buffer
	failures, err := json.Marshal(r.Failures)
	if err != nil {
		return err
	}
	fmt.Fprintf(&text, "{\n  \"machine\": %s,\n  \"rounds\": %d,\n  \"failures\": %s,\n  \"samples\": [\n", machine, r.Rounds, failures)
	for i, s := range r.Samples {
		line, err := json.Marshal(s)
		if err != nil {
			return err
		}
		comma := ","
		if i == len(r.Samples)-1 {
			comma = ""
		}
		fmt.Fprintf(&text, "    %s%s\n", line, comma)
	}
	text.WriteString("  ]\n}\n")
	return os.WriteFile(file, text.Bytes(), 0o644)
}

func (r *report) tables(out io.Writer) {
	d := r.Machine
	fmt.Fprintf(out, "%s; %s, %d cores, Linux %s; client and origin on core %s, proxies on %s, control plane on %s; up to %d rounds of up to %d requests or %v.\n",
		d.When.Format("2006-01-02"), d.CPU, d.Cores, d.Kernel, coreName(d.Pinned.Load), coreName(d.Pinned.Proxy), coreName(d.Pinned.Control),
		r.Rounds, r.options.requests, r.options.limit)
	for i, name := range slices.Sorted(mapKeys(d.Versions)) {
		fmt.Fprintf(out, "%s%s: %s", map[bool]string{true: "", false: "; "}[i == 0], name, d.Versions[name])
	}
	fmt.Fprint(out, ".\nMedians; least to greatest in brackets.\n")
	r.list(out)
	r.targets(out)
	for _, m := range allMeasures() {
		r.table(out, m)
	}
	if len(r.Failures) > 0 {
		fmt.Fprint(out, "\n### Failures\n\n")
	}
	for _, f := range r.Failures {
		fmt.Fprintf(out, "- %s, %s, round %d: %s\n", f.Way, f.Measure, f.Round, strings.TrimSpace(f.Error))
	}
}

// list says what each way is.
func (r *report) list(out io.Writer) {
	fmt.Fprint(out, "\n| way | what |\n| --- | --- |\n")
	for _, y := range allWays() {
		if slices.Contains(r.options.ways, y.name) {
			fmt.Fprintf(out, "| %s | %s |\n", y.name, y.about)
		}
	}
}

func coreName(core int) string {
	if core < 0 {
		return "any"
	}
	return fmt.Sprint(core)
}

func mapKeys(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for key := range m {
			if !yield(key) {
				return
			}
		}
	}
}

// table is of one measure, with a row a way.
func (r *report) table(out io.Writer, m measure) {
	ways := r.ways(m.name)
	if len(ways) == 0 {
		return
	}
	columns := slices.DeleteFunc(slices.Clone(m.columns), func(c column) bool {
		return !slices.ContainsFunc(ways, func(y string) bool { return len(r.figures(m.name, y, c.key)) > 0 })
	})
	added := slices.Contains(m.columns, median50) && slices.Contains(ways, "direct")
	fmt.Fprintf(out, "\n### %s (`%s`)\n\n| way |", m.title, m.name)
	for _, c := range columns {
		title := c.title
		if c.unit != "" {
			title += ", " + c.unit
		}
		fmt.Fprintf(out, " %s |", title)
	}
	if added {
		fmt.Fprint(out, " added p50, µs | added p99, µs |")
	}
	fmt.Fprintf(out, "\n| --- |%s\n", strings.Repeat(" --- |", len(columns)+2*map[bool]int{true: 1}[added]))
	for _, y := range ways {
		fmt.Fprintf(out, "| %s |", y)
		for _, c := range columns {
			fmt.Fprintf(out, " %s |", spread(r.figures(m.name, y, c.key), c.scale))
		}
		if added {
			for _, key := range []string{"p50", "p99"} {
				fmt.Fprintf(out, " %s |", number((r.median(m.name, y, key)-r.median(m.name, "direct", key))*1e6))
			}
		}
		fmt.Fprintln(out)
	}
}

func spread(all []float64, scale float64) string {
	switch len(all) {
	case 0:
		return "–"
	case 1:
		return number(all[0] * scale)
	}
	return fmt.Sprintf("%s (%s to %s)", number(all[len(all)/2]*scale), number(all[0]*scale), number(all[len(all)-1]*scale))
}

// number has three digits that matter, and all that stand before the point.
func number(v float64) string {
	switch a := math.Abs(v); {
	case a >= 100 || a == 0:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

// The lines between which a document has what this program writes.
const (
	generatedBegin = "<!-- written by make bench: begin -->"
	generatedEnd   = "<!-- written by make bench: end -->"
)

func replace(file, text string) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(old), generatedBegin+"\n")
	_, after, ended := strings.Cut(rest, generatedEnd)
	if !found || !ended {
		return errors.New(file + " lacks the lines between which to write: " + generatedBegin + " and " + generatedEnd)
	}
	return os.WriteFile(file, []byte(before+generatedBegin+"\n"+text+generatedEnd+after), 0o644)
}
