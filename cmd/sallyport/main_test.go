package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// TestMain makes the test binary serve as the programs that scripts and tests
// start: the CLI itself, and what stands in for its neighbours.
func TestMain(m *testing.M) {
	// Every program of a race build would linger for a second at its end.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	testscript.Main(m, map[string]func(){
		"sallyport":         main,
		"sallyport-sidecar": fakeSidecar,
		"witness":           witness,
	})
}

// handover is what the fake sidecar was started with.
type handover struct {
	Args    []string
	Environ []string
	Token   string
	Files   []string // open descriptors
}

// fakeSidecar writes its handover to the file named by HANDOVER and becomes the
// command, without any sandbox.
func fakeSidecar() {
	h := handover{Args: os.Args[1:], Environ: os.Environ()}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		panic(err)
	}
	for _, e := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(target, "/tmp/") {
			h.Files = append(h.Files, target)
		}
	}
	token, err := os.ReadFile(h.Args[slices.Index(h.Args, "--join-token-file")+1])
	if err != nil {
		panic(err)
	}
	h.Token = string(token)
	if name := os.Getenv("HANDOVER"); name != "" {
		text, err := json.Marshal(h)
		if err != nil {
			panic(err)
		}
		if err := os.WriteFile(name, text, 0o600); err != nil {
			panic(err)
		}
	}
	command := h.Args[slices.Index(h.Args, "--")+1:]
	if err := unix.Exec("/usr/bin/env", append([]string{"env"}, command...), os.Environ()); err != nil {
		panic(err)
	}
}

// witness says which signals it gets, and ends with status 7 at SIGTERM or when
// its standard input ends.
func witness() {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGUSR1)
	fmt.Println("ready")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	for {
		select {
		case s := <-signals:
			fmt.Println(unix.SignalName(s.(syscall.Signal)))
			if s == unix.SIGTERM {
				os.Exit(7)
			}
		case <-ended:
			os.Exit(7)
		}
	}
}
