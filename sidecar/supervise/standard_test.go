package supervise

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func withStdin(f *os.File) option  { return func(cmd *exec.Cmd) { cmd.Stdin = f } }
func withStderr(f *os.File) option { return func(cmd *exec.Cmd) { cmd.Stderr = f } }

// socketFile gives the descriptor behind a connection.
func socketFile(t *testing.T, c interface{ File() (*os.File, error) }) *os.File {
	t.Helper()
	f, err := c.File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// A socket that the agent inherits is one of the machine's network.
func TestStandardDescriptorsThatLeadOut(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dial := func(network, address string) *os.File {
		c, err := net.Dial(network, address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return socketFile(t, c.(interface{ File() (*os.File, error) }))
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	unbound, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for name, f := range map[string]*os.File{
		"tcp":           dial("tcp", listener.Addr().String()),
		"listener":      socketFile(t, listener.(*net.TCPListener)),
		"udp":           dial("udp", "127.0.0.1:9"),
		"unix datagram": os.NewFile(uintptr(pair[0]), "pair"),
		"unix, unbound": os.NewFile(uintptr(unbound), "unbound"),
		"directory":     dir,
	} {
		t.Run(name, func(t *testing.T) {
			eachUser(t, func(t *testing.T, options ...option) {
				s := start(t, sh("echo started"), append(options, withStdin(f))...)
				if status := s.wait(); status != ExitFailure || s.stdout.String() != "" || !strings.Contains(s.stderr.String(), "standard input is a") {
					t.Errorf("exit status %d, %q, %q", status, s.stdout, s.stderr)
				}
			})
		})
	}
}

func TestStandardInputMayBeAStream(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	inside, outside := os.NewFile(uintptr(pair[0]), "inside"), os.NewFile(uintptr(pair[1]), "outside")
	fmt.Fprintln(outside, "text")
	outside.Close()
	s := start(t, sh("read x; echo got $x"), withStdin(inside))
	inside.Close()
	if status := s.wait(); status != 0 || s.stdout.String() != "got text\n" {
		t.Errorf("exit status %d, %q, %q", status, s.stdout, s.stderr)
	}
}

// What the agent has for standard error is not what the log goes to: reading it,
// or changing how it is written, must not lose a line of the log.
func TestAgentCannotTouchTheLog(t *testing.T) {
	const attack = `/usr/bin/python3 -c '
import fcntl, os, sys
try:
    os.chmod("/proc/self/fd/2", 0o666)
except OSError:
    pass
fcntl.fcntl(2, fcntl.F_SETFL, os.O_NONBLOCK)
try:
    for line in os.fdopen(os.open("/proc/self/fd/2", os.O_RDONLY | os.O_NONBLOCK), "rb"):
        print("read", line)
except OSError:
    pass
'; echo done; read x`
	eachUser(t, func(t *testing.T, options ...option) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		s := start(t, sh(attack), append(options, withStderr(w))...)
		s.stdout.await(t, "done")
		flags, err := unix.FcntlInt(w.Fd(), unix.F_GETFL, 0)
		if err != nil || flags&unix.O_NONBLOCK != 0 {
			t.Errorf("the log's description has flags %#x, %v", flags, err)
		}
		w.Close()
		fmt.Fprintln(s.stdin)
		if status := s.wait(); status != 0 || strings.Contains(s.stdout.String(), "read") {
			t.Errorf("exit status %d: %s", status, s.stdout)
		}
		log, err := io.ReadAll(r)
		if err != nil || !strings.HasPrefix(string(log), "ready\n") || !strings.Contains(string(log), "drained") {
			t.Errorf("the log is %q, %v", log, err)
		}
	})
}

func TestAgentCannotReadTheLogsFile(t *testing.T) {
	f, err := os.OpenFile(publicDir(t)+"/log", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fmt.Fprintln(f, "earlier")
	eachUser(t, func(t *testing.T, options ...option) {
		out := mustRun(t, sh("/usr/bin/python3 -c 'import os; print(os.pread(2, 99, 0))' 2>&1; true"), append(options, withStderr(f))...)
		if strings.Contains(out, "earlier") {
			t.Errorf("it read %q", out)
		}
	})
}

// Both streams at one place keep their order.
func TestOneFileForBothStreams(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	both := func(cmd *exec.Cmd) { cmd.Stdout, cmd.Stderr = w, w }
	s := start(t, sh("for i in 1 2 3 4 5; do echo o$i; echo e$i >&2; done"), both)
	w.Close()
	text, err := io.ReadAll(r)
	if err != nil || !strings.Contains(string(text), "o1\ne1\no2\ne2\no3\ne3\no4\ne4\no5\ne5\n") {
		t.Errorf("it wrote %q, %v", text, err)
	}
	s.wait()
}

// Nobody reads the log any more: the sandbox lives on, and its programs are
// told of broken pipes as ever.
func TestLogsReaderGoesAway(t *testing.T) {
	eachUser(t, func(t *testing.T, options ...option) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		s := start(t, sh(ask+"echo started; read x; ask x; grep SigIgn /proc/self/status; exit 5"), append(options, withStderr(w))...)
		w.Close()
		s.stdout.await(t, "started")
		r.Close()
		killed := watch(t, s.process("worker"))
		if err := unix.Kill(killed.pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		killed.awaitEnd(t)
		fmt.Fprintln(s.stdin)
		if status := s.wait(); status != 5 || !strings.Contains(s.stdout.String(), "worker 2 of") {
			t.Errorf("exit status %d: %s", status, s.stdout)
		}
		lines := bufio.NewScanner(strings.NewReader(s.stdout.String()))
		for lines.Scan() {
			var ignored uint64
			if n, _ := fmt.Sscanf(lines.Text(), "SigIgn:\t%x", &ignored); n == 1 && ignored&(1<<(unix.SIGPIPE-1)) != 0 {
				t.Error("the agent ignores SIGPIPE")
			}
		}
	})
}
