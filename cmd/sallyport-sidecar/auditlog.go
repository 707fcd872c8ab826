package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protojson"

	"sallyport/sidecar/audit"
)

// auditLog is the file of one sandbox's uses of credentials. Whoever starts a
// worker holds it, and a lock on it, and never reads it.
type auditLog struct {
	dir  string
	file *os.File // nil for none
}

// openAuditLog makes a file in dir, or where none is named in the first of the usual
// places that can be written; if there is none, the sandbox has no log.
func openAuditLog(dir string, getenv func(string) string, log *slog.Logger) (*auditLog, error) {
	if dir != "" {
		l, err := newAuditLog(dir, log)
		if err != nil {
			return nil, fmt.Errorf("--audit-dir: %w", err)
		}
		return l, nil
	}
	places := []string{"/var/lib/sallyport/audit"}
	if state := getenv("XDG_STATE_HOME"); filepath.IsAbs(state) {
		places = append(places, filepath.Join(state, "sallyport/audit"))
	} else if home := getenv("HOME"); filepath.IsAbs(home) {
		places = append(places, filepath.Join(home, ".local/state/sallyport/audit"))
	}
	for _, place := range places {
		l, err := newAuditLog(place, log)
		if err == nil {
			return l, nil
		}
		log.Debug("no log of uses of credentials here", "dir", place, "error", err)
	}
	return new(auditLog), nil
}

func newAuditLog(dir string, log *slog.Logger) (*auditLog, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil { // what is hidden is what is there
		return nil, err
	}
	sweep(dir, log)
	f, err := os.CreateTemp(dir, time.Now().UTC().Format("20060102T150405Z")+"-*.log") // 0600
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return &auditLog{dir: dir, file: f}, nil
}

// close removes the file when nothing is left in it that the control plane has not.
func (l *auditLog) close() {
	if l.file == nil {
		return
	}
	if info, err := l.file.Stat(); err == nil && info.Size() == 0 {
		_ = os.Remove(l.file.Name()) // the next sidecar sweeps it
	}
	l.file.Close()
}

// sweep removes empty files that nobody holds, and tells of others: what a sandbox
// that was cut down could not report.
func sweep(dir string, log *slog.Logger) {
	files, _ := filepath.Glob(filepath.Join(dir, "*.log")) // its pattern is right
	for _, name := range files {
		info, err := os.Lstat(name)
		if err != nil || !info.Mode().IsRegular() || time.Since(info.ModTime()) < time.Minute { // it may be about to be locked
			continue
		}
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case errors.Is(err, unix.EWOULDBLOCK):
		case err == nil && info.Size() == 0:
			_ = os.Remove(name)
		case err == nil:
			log.Warn("a sandbox ended before it had reported all its uses of credentials; read them with the command audit-log and remove the file", "file", name)
		}
		f.Close()
	}
}

// auditFile is what the worker makes of the file.
type auditFile struct{ *os.File }

// Sync implements audit.File.
func (f auditFile) Sync() error {
	return ignoringInterrupts(func() error { return unix.Fdatasync(int(f.Fd())) })
}

// Size implements audit.File.
func (f auditFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func ignoringInterrupts(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

type auditLogCmd struct {
	File string `arg:"" type:"existingfile" help:"A file of --audit-dir that no sidecar holds any more."`
}

// Run prints what a sandbox that was cut down did not report, a line of JSON each.
func (cmd *auditLogCmd) Run(env *environment) error {
	f, err := os.Open(cmd.File)
	if err != nil {
		return err
	}
	defer f.Close()
	owner, events, err := audit.ReadLog(f)
	if err != nil {
		return err
	}
	fmt.Fprintln(env.stderr, owner)
	for _, e := range events {
		line, err := protojson.Marshal(e)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(env.stdout, "%s\n", line); err != nil {
			return err
		}
	}
	return nil
}
