// Command search looks for secrets where a sandbox could see them: in the memory,
// environment and arguments of its processes, and in the files on its disk.
//
//	printf 'key %s\ncanary %s\n' "$key" "$canary" | search --below PID --since FILE
//
// With --process PID it looks at that process alone, wherever it is, and at no files.
//
// It runs outside the sandbox, whose processes are those below PID that have
// another PID namespace than this program. Secrets are read from standard input,
// a name and a value a line, and looked for as they are, in base64, in hex and in HPACK's
// Huffman code. One
// line of counts is printed for each, and where it was found. A secret that did not
// exist before FILE was made can only be in files changed since; only these are read.
//
// A search that finds nothing proves something only if it would have found it:
// always give it a canary that is there.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "search:", err)
		os.Exit(1)
	}
}

func run(args []string, stdin io.Reader, stdout io.Writer) error {
	flags := flag.NewFlagSet("search", flag.ContinueOnError)
	below := flags.Int("below", 0, "search the sandbox below this process")
	process := flags.Int("process", 0, "search this process alone")
	since := flags.String("since", "", "read only files changed since this one was")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var start time.Time
	if *since != "" {
		info, err := os.Stat(*since)
		if err != nil {
			return err
		}
		start = info.ModTime()
	}
	needles, err := readNeedles(stdin)
	if err != nil {
		return err
	}
	s := &searcher{needles: needles}
	if *process != 0 {
		if err := s.process(*process); err != nil {
			return err
		}
		return s.print(stdout, 1)
	}
	pids, err := sandboxed(*below)
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := s.process(pid); err != nil {
			return err
		}
	}
	if err := s.disks(pids, start); err != nil {
		return err
	}
	return s.print(stdout, len(pids))
}

// needle is one secret, in the forms it is looked for.
type needle struct {
	name  string
	forms [][]byte
	found map[string]int // by place
	where []string
}

func readNeedles(r io.Reader) ([]*needle, error) {
	var needles []*needle
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		name, value, found := strings.Cut(lines.Text(), " ")
		if !found || len(value) < 8 {
			return nil, errors.New("standard input: want a name and a value of at least 8 characters a line")
		}
		needles = append(needles, &needle{name: name, forms: formsOf(value), found: map[string]int{}})
	}
	if len(needles) == 0 {
		return nil, errors.New("standard input: nothing to look for")
	}
	return needles, lines.Err()
}

func (s *searcher) print(w io.Writer, processes int) error {
	_, err := fmt.Fprintf(w, "searched %d processes (%d MiB of memory, with environments and arguments) and %d files (%d MiB)\n",
		processes, s.memory>>20, s.files, s.disk>>20)
	for _, n := range s.needles {
		_, err = fmt.Fprintf(w, "%s: environment %d, arguments %d, memory %d, disk %d\n",
			n.name, n.found["environment"], n.found["arguments"], n.found["memory"], n.found["disk"])
		for _, place := range n.where {
			_, err = fmt.Fprintf(w, "  %s\n", place)
		}
	}
	return err
}
