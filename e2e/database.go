package e2e

import (
	"errors"
	"io/fs"
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
	text, err := os.ReadFile(filepath.Join(w.DataDir(), "postgres", "data", "postmaster.pid"))
	if errors.Is(err, fs.ErrNotExist) && signal == syscall.SIGCONT { // it has ended
		return
	}
	w.must(err)
	line, _, _ := strings.Cut(string(text), "\n")
	first, err := strconv.Atoi(line)
	w.must(err)
	w.must(syscall.Kill(first, signal))
	for _, pid := range children(first) {
		if err := syscall.Kill(pid, signal); !errors.Is(err, syscall.ESRCH) {
			w.must(err)
		}
	}
}
