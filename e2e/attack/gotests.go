package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// goTests is a corpus whose cases are Go tests, of which the package runs a sample
// unless it is given -all: those whose names begin with prefix,
// each of their subtests that has none itself being a case. flags are more for it.
type goTests struct {
	corpus, pkg, prefix string
	flags               func(options) []string
}

func (g goTests) name() string { return g.corpus }

// event is what test2json writes: see go doc test2json.
type event struct{ Action, Test, Output string }

func (g goTests) run(ctx context.Context, o options, report func(result)) error {
	pattern := "^" + g.prefix
	if o.pattern != "" {
		pattern += "/" + o.pattern
	}
	args := []string{"test", "-json", "-count=1", "-timeout=2h", "-run", pattern, g.pkg, "-all"}
	if g.flags != nil {
		args = append(args, g.flags(o)...)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	results, outside, err := readEvents(stdout)
	if err := errors.Join(err, ctx.Err()); err != nil {
		return errors.Join(err, cmd.Wait())
	}
	broken := false
	for _, r := range results {
		broken = broken || r.broken != ""
		report(r)
	}
	// A package that does not build, or ends early, has no broken case to show for it.
	if err := cmd.Wait(); err != nil && !broken {
		return fmt.Errorf("go test %s: %w\n%s", g.pkg, err, outside)
	}
	return nil
}

// readEvents gives the results of the tests that have no subtests, and of those that
// failed by themselves, and what was said outside of tests.
func readEvents(events io.Reader) (results []result, outside string, err error) {
	parents, failed, said := map[string]bool{}, map[string]bool{}, map[string]string{}
	decoder := json.NewDecoder(events)
	for {
		var e event
		if err := decoder.Decode(&e); errors.Is(err, io.EOF) {
			return results, outside, nil
		} else if err != nil {
			return nil, "", fmt.Errorf("read the events of go test: %w", err)
		}
		parent := e.Test[:max(0, strings.LastIndexByte(e.Test, '/'))]
		switch {
		case e.Test == "":
			outside += e.Output
		case e.Action == "run":
			parents[parent] = true
		case e.Action == "output":
			said[e.Test] += e.Output
		case e.Action == "pass" && !parents[e.Test]:
			results = append(results, result{name: e.Test})
		case e.Action == "skip":
			results = append(results, result{e.Test, "it was skipped"})
		case e.Action == "fail":
			failed[parent] = true
			if !failed[e.Test] {
				results = append(results, result{e.Test, said[e.Test]})
			}
		}
	}
}
