// Package logqueue keeps whoever reads a program's log from stopping the program.
package logqueue

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/term"
)

const (
	logLines     = 1024        // that wait for a slow reader
	flushTimeout = time.Second // for the lines that wait when the process ends
)

// Queue is a writer that never blocks. A reader of the log that stops reading
// loses lines, which are counted, and stops nobody's requests.
type Queue struct {
	lines   chan []byte
	dropped atomic.Uint64
	closing chan struct{}
	done    chan struct{}
}

// New makes a Queue before to, which lines go to in their order until Close.
func New(to io.Writer) *Queue {
	if f, ok := to.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		to = terminalWriter{f}
	}
	q := &Queue{lines: make(chan []byte, logLines), closing: make(chan struct{}), done: make(chan struct{})}
	go q.run(to)
	return q
}

// Write takes a line of the log. It always succeeds.
func (q *Queue) Write(line []byte) (int, error) {
	select {
	case q.lines <- append([]byte(nil), line...):
	default:
		q.dropped.Add(1)
	}
	return len(line), nil
}

func (q *Queue) run(to io.Writer) {
	defer close(q.done)
	for {
		select {
		case line := <-q.lines:
			q.write(to, line)
		case <-q.closing:
			for len(q.lines) > 0 {
				q.write(to, <-q.lines)
			}
			return
		}
	}
}

func (q *Queue) write(to io.Writer, line []byte) {
	_, _ = to.Write(line) // there is nowhere to tell
	if n := q.dropped.Swap(0); n > 0 {
		_, _ = fmt.Fprintf(to, "level=WARN msg=\"lines of the log were dropped, as nobody read them in time\" lines=%d\n", n)
	}
}

// terminalWriter ends lines so that they look the same on a terminal that is
// raw, as it is while an agent has it.
type terminalWriter struct{ *os.File }

func (w terminalWriter) Write(line []byte) (int, error) {
	if _, err := w.File.Write(bytes.ReplaceAll(line, []byte("\n"), []byte("\r\n"))); err != nil {
		return 0, err
	}
	return len(line), nil
}

// Close writes what waits, unless that takes too long. Nothing may be written after.
func (q *Queue) Close() {
	close(q.closing)
	select {
	case <-q.done:
	case <-time.After(flushTimeout):
	}
}
