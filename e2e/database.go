package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// StopDatabase has every process of the control plane's Postgres hang until
// ContinueDatabase, or the test's end.
func (w *World) StopDatabase() {
	w.t.Helper()
	w.t.Cleanup(w.ContinueDatabase)
	w.signalDatabase(syscall.SIGSTOP)
}

// ContinueDatabase has it go on.
func (w *World) ContinueDatabase() {
	w.t.Helper()
	w.signalDatabase(syscall.SIGCONT)
}

// signalDatabase signals the first process before its children, so that it makes no more.
func (w *World) signalDatabase(signal syscall.Signal) {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(w.DataDir(), "postgres", "postmaster.pid"))
	if err != nil { // it has ended
		return
	}
	line, _, _ := strings.Cut(string(text), "\n")
	first, err := strconv.Atoi(line)
	w.must(err)
	for _, pid := range append([]int{first}, children(first)...) {
		if err := syscall.Kill(pid, signal); err != nil && err != syscall.ESRCH {
			w.t.Fatal(err)
		}
	}
}
