package logqueue

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
)

// A reader that has stopped reading stops nobody who logs, and learns how much
// it missed.
func TestLogNeverBlocks(t *testing.T) {
	r, w := io.Pipe()
	q := New(w)
	const lines = 2 * logLines
	for i := range lines {
		fmt.Fprintf(q, "line %d\n", i)
	}
	var text bytes.Buffer
	read := make(chan struct{})
	go func() {
		defer close(read)
		io.Copy(&text, r)
	}()
	q.Close()
	w.Close()
	<-read
	var dropped int
	_, after, ok := strings.Cut(text.String(), " lines=")
	if n, _ := fmt.Sscan(after, &dropped); !ok || n != 1 || dropped < logLines-2 {
		t.Errorf("%d were dropped, it says: %q", dropped, after)
	}
	if got := strings.Count(text.String(), "line "); got+dropped != lines {
		t.Errorf("%d written and %d dropped of %d", got, dropped, lines)
	}
}

// The end of the process doesn't wait for such a reader either.
func TestLogEndsWithoutReader(t *testing.T) {
	_, w := io.Pipe()
	q := New(w)
	fmt.Fprintln(q, "line")
	q.Close()
}
