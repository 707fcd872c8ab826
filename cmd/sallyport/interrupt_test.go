package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Reading a secret may wait without end: for a person, or a program that writes.
func TestInterruptEndsReading(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	silent, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	defer writer.Close()
	_, keyboard := terminal(t)
	before, err := unix.IoctlGetTermios(int(keyboard.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		stdin io.Reader
		file  string
	}{
		"a terminal":            {keyboard, "-"},
		"a pipe":                {silent, "-"},
		"a file without an end": {strings.NewReader(""), fifo},
	} {
		ctx, interrupt := context.WithCancel(t.Context())
		status := make(chan int)
		reading := make(chan struct{}, 10)
		go func() {
			env := map[string]string{"HOME": t.TempDir(), "SALLYPORT_TOKEN": "sp_token"}
			status <- run(ctx, []string{"credential", "add", "--vault", "v", "--name", "n", "--service", "stripe", "--secret-file", tt.file},
				func(name string) string { return env[name] }, tt.stdin, io.Discard, notify{reading})
		}()
		if tt.stdin == io.Reader(keyboard) {
			<-reading // the prompt
			for shown := *before; shown.Lflag&unix.ECHO != 0; {
				now, err := unix.IoctlGetTermios(int(keyboard.Fd()), unix.TCGETS)
				if err != nil {
					t.Fatal(err)
				}
				shown = *now
			}
		}
		interrupt()
		if got := <-status; got != 130 {
			t.Errorf("%s: status %d, want 130", name, got)
		}
	}
	after, err := unix.IoctlGetTermios(int(keyboard.Fd()), unix.TCGETS)
	if err != nil || *after != *before {
		t.Errorf("the terminal is left as %+v, was %+v, %v", after, before, err)
	}
}

func TestInterruptEndsReadingOfAPolicy(t *testing.T) {
	silent, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	defer writer.Close()
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	status := make(chan int, 1)
	go func() {
		status <- run(ctx, []string{"agent", "policy", "set", "billing", "--file", "-"}, func(string) string { return "" }, silent, io.Discard, io.Discard)
	}()
	select {
	case got := <-status:
		if got != 130 {
			t.Errorf("status %d, want 130", got)
		}
	case <-time.After(10 * time.Second):
		t.Error("it reads on")
	}
}

// notify tells that something was written.
type notify struct{ written chan struct{} }

func (n notify) Write(p []byte) (int, error) {
	n.written <- struct{}{}
	return len(p), nil
}
