package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
)

// table counts what the corpora report.
type table struct {
	details io.Writer // is told of each broken case at once
	rows    []*row
}

type row struct {
	corpus       string
	held, broken int
}

// row begins the row of a corpus, and gives what reports its cases. That may be
// called by several goroutines.
func (t *table) row(corpus string) func(result) {
	r := &row{corpus: corpus}
	t.rows = append(t.rows, r)
	var mu sync.Mutex
	return func(got result) {
		mu.Lock()
		defer mu.Unlock()
		if got.broken == "" {
			r.held++
			return
		}
		r.broken++
		fmt.Fprintf(t.details, "BROKEN %s %s\n\t%s\n", corpus, got.name, strings.ReplaceAll(strings.TrimSpace(got.broken), "\n", "\n\t"))
	}
}

func (t *table) print(out io.Writer) {
	columns := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(columns, "corpus\tcases\theld\tbroken\t")
	for _, r := range t.rows {
		fmt.Fprintf(columns, "%s\t%d\t%d\t%d\t\n", r.corpus, r.held+r.broken, r.held, r.broken)
	}
	columns.Flush()
}

// verdict is an error when a case is broken, or a corpus had none: that shows nothing.
func (t *table) verdict() error {
	var errs []error
	for _, r := range t.rows {
		switch {
		case r.broken > 0:
			errs = append(errs, fmt.Errorf("%s: %d cases are broken", r.corpus, r.broken))
		case r.held == 0:
			errs = append(errs, fmt.Errorf("%s: there was no case to run", r.corpus))
		}
	}
	return errors.Join(errs...)
}

// sample gives as many cases as the flags want, always the same ones of a seed.
func sample[T any](cases []T, o options) []T {
	if o.sample == 0 || o.sample >= len(cases) {
		return cases
	}
	chosen := rand.New(rand.NewPCG(o.seed, 0)).Perm(len(cases))[:o.sample]
	slices.Sort(chosen)
	var some []T
	for _, i := range chosen {
		some = append(some, cases[i])
	}
	return some
}
