package supervise

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal gives the two ends of a new one.
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

// startAtTerminal starts a sandbox as the first program of a terminal. What is
// typed goes to stdin, what it shows comes from stdout.
func startAtTerminal(t *testing.T, p part, options ...option) *sandbox {
	t.Helper()
	master, slave := terminal(t)
	s := start(t, p, append(options, func(cmd *exec.Cmd) {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
		cmd.SysProcAttr.Setctty = true
	})...)
	s.stdin = master
	go io.Copy(s.stdout, master) // until the terminal is closed
	return s
}

func (s *sandbox) typed(text string) {
	s.t.Helper()
	if _, err := io.WriteString(s.stdin, text); err != nil {
		s.t.Fatal(err)
	}
}

func TestInterruptReachesTheAgentOnce(t *testing.T) {
	eachUser(t, func(t *testing.T, options ...option) {
		s := startAtTerminal(t, sh(`trap 'echo interrupted' INT; echo set; read x; read y; echo "read $y"`), options...)
		s.stdout.await(t, "set")
		s.typed("\x03")
		s.stdout.await(t, "interrupted")
		s.typed("one\ntwo\n")
		s.stdout.await(t, "read ")
		if status := s.wait(); status != 0 {
			t.Errorf("exit status %d: %s", status, s.stdout)
		}
		if n := strings.Count(s.stdout.String(), "interrupted"); n != 1 {
			t.Errorf("interrupted %d times: %s", n, s.stdout)
		}
	})
}

func TestInterruptEndsTheAgent(t *testing.T) {
	s := startAtTerminal(t, sh("echo started; exec sleep 1000"))
	s.stdout.await(t, "started")
	s.typed("\x03")
	if status := s.wait(); status != 128+2 {
		t.Errorf("exit status %d: %s", status, s.stdout)
	}
}

// Nobody could continue an agent that stopped with process 1 of a session.
func TestSuspendWithoutAShellDoesNothing(t *testing.T) {
	s := startAtTerminal(t, sh("echo started; read x; echo read $x"))
	s.stdout.await(t, "started")
	s.typed("\x1atext\n")
	s.stdout.await(t, "read text")
	if status := s.wait(); status != 0 {
		t.Errorf("exit status %d: %s", status, s.stdout)
	}
}

func TestShellInTheSandboxHasJobControl(t *testing.T) {
	eachUser(t, func(t *testing.T, options ...option) {
		s := startAtTerminal(t, part{Command: []string{"bash", "--norc", "--noediting", "-i"}}, append(options, withEnv("PS1=prompt "))...)
		s.stdout.await(t, "prompt")
		s.typed("sleep 1000 &\nsh -c 'echo runs-$((3+4)); exec sleep 2000'\n")
		s.stdout.await(t, "runs-7") // by the program, not by the terminal's echo
		s.typed("\x1a")
		s.stdout.await(t, "Stopped")
		s.typed("jobs; kill -KILL %1 %2; while jobs >/dev/null; [ \"$(jobs -p)\" ]; do sleep 0.01; done; echo one-$((1+1))\n")
		s.stdout.await(t, "one-2")
		s.typed("exit 6\n")
		if status := s.wait(); status != 6 {
			t.Errorf("exit status %d: %s", status, s.stdout)
		}
		if strings.Contains(s.stdout.String(), "process group") || strings.Contains(s.stdout.String(), "job control") {
			t.Errorf("the shell complained:\n%s", s.stdout)
		}
	})
}

// Ctrl-Z gives the terminal back to the user's own shell, and fg the sandbox.
func TestSuspendAndContinue(t *testing.T) {
	eachUser(t, func(t *testing.T, options ...option) {
		underShell := wrapped("bash", "--norc", "--noediting", "-c", `set -m; "$@"; echo stopped-$?; read z; echo between-$z; fg >/dev/null; echo ended-$?`, "bash")
		s := startAtTerminal(t, sh("echo started; read x; echo read-$x; exit 4"), append(options, underShell)...)
		s.stdout.await(t, "started")
		s.typed("\x1a")
		s.stdout.await(t, "stopped-148")
		s.typed("outside\n")
		s.stdout.await(t, "between-outside")
		s.typed("inside\n")
		s.stdout.await(t, "read-inside")
		s.stdout.await(t, "ended-4")
		s.wait()
	})
}

// A process that the agent leaves behind in a session of its own, where job
// control does not reach it, reads nothing that the user types to other programs.
func TestAgentCannotReadTheUsersTerminal(t *testing.T) {
	eachUser(t, func(t *testing.T, options ...option) {
		underShell := wrapped("bash", "--norc", "--noediting", "-c",
			`set -m; "$@"; echo stopped-$?; for i in 1 2 3 4 5 6 7 8; do read z; echo heard-$z; done; kill -KILL %1`, "bash")
		s := startAtTerminal(t, sh(`setsid sh -c 'while read x; do echo stolen-$x; done' <&0 & echo started; exec sleep 1000`), append(options, underShell)...)
		s.stdout.await(t, "started")
		s.typed("\x1a")
		s.stdout.await(t, "stopped-148")
		for i := range 8 {
			s.typed(fmt.Sprintf("secret%d\n", i))
			s.stdout.await(t, fmt.Sprintf("heard-secret%d", i))
		}
		s.wait()
		if strings.Contains(s.stdout.String(), "stolen") {
			t.Errorf("the agent read what was typed to the shell:\n%s", s.stdout)
		}
	})
}

// In the background the terminal stays the shell's, and fg makes it the agent's.
func TestBackground(t *testing.T) {
	underShell := wrapped("bash", "--norc", "--noediting", "-c", `set -m; "$@" & read z; echo heard-$z; fg >/dev/null; echo ended-$?`, "bash")
	s := startAtTerminal(t, sh("echo started; read x; echo read-$x; exit 4"), underShell)
	s.stdout.await(t, "started")
	s.typed("outside\n")
	s.stdout.await(t, "heard-outside")
	s.typed("inside\n")
	s.stdout.await(t, "read-inside")
	s.stdout.await(t, "ended-4")
	s.wait()
}

func TestTerminalIsOneOfTheSandbox(t *testing.T) {
	eachUser(t, func(t *testing.T, options ...option) {
		s := startAtTerminal(t, sh(`trap 'stty size; exit' WINCH; tty; test -w $(tty) && echo mine; echo set; while :; do sleep 0.1; done`), options...)
		s.stdout.await(t, "set")
		user := int(s.stdin.(*os.File).Fd())
		cooked := func() bool {
			const flags = unix.ECHO | unix.ICANON | unix.ISIG
			termios, err := unix.IoctlGetTermios(user, unix.TCGETS)
			if err != nil {
				t.Fatal(err)
			}
			return termios.Lflag&flags == flags
		}
		if cooked() {
			t.Error("the user's terminal is not raw")
		}
		if err := unix.IoctlSetWinsize(user, unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 100}); err != nil {
			t.Fatal(err)
		}
		if status := s.wait(); status != 0 {
			t.Errorf("exit status %d", status)
		}
		s.stdout.await(t, "40 100")
		for _, want := range []string{"/dev/pts/0\r\n", "mine\r\n"} {
			if !strings.Contains(s.stdout.String(), want) {
				t.Errorf("no %q in\n%s", want, s.stdout)
			}
		}
		if !cooked() {
			t.Error("the user's terminal was left raw")
		}
	})
}

// The end of the agent takes nothing from what it wrote before.
func TestLastWordsAreShown(t *testing.T) {
	s := startAtTerminal(t, sh("seq 30000"))
	s.stdout.await(t, "\r\n30000\r\n")
	if status := s.wait(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

// Each descriptor is what it was outside: a pipe stays one.
func TestPipeAndTerminal(t *testing.T) {
	master, slave := terminal(t)
	s := start(t, sh("read x; test -t 0 || echo pipe-$x; test -t 1 && echo terminal; echo whole >&2"), func(cmd *exec.Cmd) { cmd.Stdout, cmd.Stderr = slave, slave })
	shown := newOutput()
	go io.Copy(shown, master) // until the terminal is closed
	fmt.Fprintln(s.stdin, "text")
	if status := s.wait(); status != 0 {
		t.Errorf("exit status %d: %s", status, shown)
	}
	shown.await(t, "whole")
	if got := shown.String(); !strings.Contains(got, "pipe-text\r\nterminal\r\nwhole\r\n") {
		t.Errorf("it shows %q", got)
	}
}
