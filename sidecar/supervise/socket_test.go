package supervise

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// connectTo is a shell command that says what connecting to a path comes to.
func connectTo(path string) string {
	return fmt.Sprintf("/usr/bin/python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect(%q); print(\"connected\")' 2>&1 | tail -1", path)
}

// listenAt serves a Unix socket that everybody may connect to.
func listenAt(t *testing.T, path string) {
	t.Helper()
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	if err := os.Chmod(path, 0o777); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
}

// A socket of the machine, whoever may connect to it, is no way out.
func TestMachinesSocketsAreCovered(t *testing.T) {
	dir := publicDir(t)
	linked := filepath.Join(dir, "linked")
	if err := os.Symlink(dir, linked); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "a socket"), filepath.Join(dir, "two  spaces "), filepath.Join(linked, "socket")} {
		listenAt(t, path)
		eachUser(t, func(t *testing.T, options ...option) {
			if out := mustRun(t, sh(connectTo(path)), options...); !strings.Contains(out, "ConnectionRefusedError") {
				t.Errorf("connecting to %q said %q", path, out)
			}
		})
	}
}

// Where users' programs put their sockets, one that comes later is out of reach
// too, even by a path that the kernel does not list.
func TestLaterSocketsAreOutOfReach(t *testing.T) {
	for _, parent := range temporary() {
		dir := publicDirIn(t, parent)
		eachUser(t, func(t *testing.T, options ...option) {
			path := filepath.Join(dir, strings.ReplaceAll(t.Name(), "/", "-"))
			s := start(t, sh("echo started; read x; "+connectTo(path)), options...)
			s.stdout.await(t, "started")
			listenAt(t, path)
			fmt.Fprintln(s.stdin)
			s.wait()
			if out := s.stdout.String(); !strings.Contains(out, "FileNotFoundError") {
				t.Errorf("connecting to %s said %q", path, out)
			}
		})
	}
}

// Every local user chooses what the list of bound sockets says and what is at
// those paths later: neither ends a start, nor covers anything else.
func TestStrangersSocketsDoNoHarm(t *testing.T) {
	dir := publicDir(t)
	victim := filepath.Join(dir, "victim")
	if err := os.WriteFile(victim, []byte("whole\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	replaced := func(name, link string) {
		path := filepath.Join(dir, name)
		listenAt(t, path)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(link, path); err != nil {
			t.Fatal(err)
		}
	}
	replaced("link", victim)
	replaced("loop", "loop")
	replaced("long", strings.Repeat("d/", 2000))
	replaced("file below", filepath.Join(victim, "x"))
	replaced("magic", "/proc/self/fd/2")
	if out := mustRun(t, sh("cat "+victim)); out != "whole\n" {
		t.Errorf("the victim holds %q", out)
	}
}

func TestSharedPaths(t *testing.T) {
	dir := publicDirIn(t, "/tmp")
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"file", "other", "sub/file"} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name    string
		share   []string
		dir     string
		want    string
		options []option
	}{
		{"nothing", nil, "/", "", nil},
		{"all of /tmp", nil, "/tmp", "", nil},
		{"working directory", nil, dir, "file other sub sub/file", nil},
		{"file", []string{filepath.Join(dir, "file")}, "/", "file", nil},
		{"directory", []string{filepath.Join(dir, "sub")}, "/", "sub sub/file", nil},
		{"both", []string{filepath.Join(dir, "sub")}, dir, "file other sub sub/file", nil},
		{"own TMPDIR", nil, "/", "mine", []option{withEnv("TMPDIR=" + dir + "/mine")}},
	} {
		t.Run(test.name, func(t *testing.T) {
			eachUser(t, func(t *testing.T, options ...option) {
				p := sh("cd " + dir + " 2>/dev/null && find . -mindepth 1 -printf '%P ' | tr ' ' '\\n' | sort | xargs; touch ${TMPDIR:-/tmp}/new /var/tmp/new")
				p.Share = test.share
				if out := strings.TrimSpace(mustRun(t, p, append(append(options, inDir(test.dir)), test.options...)...)); out != test.want {
					t.Errorf("it sees %q, want %q", out, test.want)
				}
			})
		})
	}
	t.Run("explained", func(t *testing.T) {
		status, _, stderr := run(t, part{Command: []string{filepath.Join(dir, "file")}})
		if status != ExitNotFound || !strings.Contains(stderr, "--share") {
			t.Errorf("exit status %d: %s", status, stderr)
		}
	})
}
