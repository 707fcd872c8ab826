package controltest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Clock is that of a database of its own. Nobody else's is set.
type Clock struct{ file string }

// StartApart runs a control plane for one test, whose database has a clock of its own.
func StartApart(t *testing.T) (*Plane, Clock) {
	t.Helper()
	dir, err := os.MkdirTemp("", "sallyport")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	clock := Clock{filepath.Join(dir, "clock")}
	clock.Set(t, 0)
	log := &Log{}
	plane := &Plane{Log: log, DatabaseURL: clock.startDatabase(t, dir)}
	end, err := plane.start(t.Context(), dir, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := end(); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	return plane, clock
}

// Set has the database's clock leap, to how much it is ahead of all others.
func (c Clock) Set(t *testing.T, ahead time.Duration) {
	t.Helper()
	next := c.file + ".next"
	if err := os.WriteFile(next, fmt.Appendf(nil, "%+d", int64(ahead/time.Second)), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, c.file); err != nil {
		t.Fatal(err)
	}
}

// startDatabase starts a Postgres whose time is libfaketime's, and gives its URL.
func (c Clock) startDatabase(t *testing.T, dir string) (url string) {
	t.Helper()
	programs, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	libraries, _ := filepath.Glob("/usr/lib/*/faketime/libfaketime.so.1")
	if len(programs) == 0 || len(libraries) == 0 {
		t.Fatal("Postgres or libfaketime is not installed: scripts/setup test")
	}
	data := filepath.Join(dir, "data")
	if err := errors.Join(os.Mkdir(data, 0o700), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	attributes := &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT}
	if os.Geteuid() == 0 { // which Postgres refuses to run as
		attributes.Credential = postgres(t)
		if err := os.Chown(data, int(attributes.Credential.Uid), int(attributes.Credential.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	bin := filepath.Dir(programs[0])
	made := exec.Command(programs[0], "-D", data, "--username=sallyport", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
	made.SysProcAttr = &syscall.SysProcAttr{Credential: attributes.Credential}
	if out, err := made.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	server := exec.Command(filepath.Join(bin, "postgres"), "-D", data, "-k", data, "-c", "listen_addresses=", "-c", "fsync=off")
	server.Env = []string{
		"LC_ALL=C", "TZ=UTC", "LD_PRELOAD=" + libraries[0], "FAKETIME_TIMESTAMP_FILE=" + c.file, "FAKETIME_NO_CACHE=1",
		"FAKETIME_DONT_FAKE_MONOTONIC=1", "FAKETIME_FORCE_MONOTONIC_FIX=0",
	}
	server.SysProcAttr = attributes
	said := &Log{}
	server.Stdout, server.Stderr = said, said
	started, ended := make(chan error), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread() // whose end would be the parent's death to it
		err := server.Start()
		started <- err
		if err == nil {
			server.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Process.Signal(syscall.SIGINT) // ends at once, in order
		<-ended
		if t.Failed() {
			t.Logf("postgres said:\n%s", said)
		}
	})
	for range 1000 {
		if strings.Contains(said.String(), "ready to accept connections") {
			return "postgres://sallyport@/postgres?host=" + data
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("postgres does not listen\n%s", said)
	return ""
}

func postgres(t *testing.T) *syscall.Credential {
	t.Helper()
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}
