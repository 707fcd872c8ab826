package supervise

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestExitStatus(t *testing.T) {
	dir := publicDir(t)
	for name, content := range map[string]string{"interpreter": "#!/no/such/shell\n", "binary": "\x00\x01", "forbidden": "#!/bin/sh\n"} {
		mode := os.FileMode(0o755)
		if name == "forbidden" {
			mode = 0o644
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name    string
		command []string
		status  int
		message string
	}{
		{"success", []string{"true"}, 0, ""},
		{"status", []string{"sh", "-c", "exit 42"}, 42, ""},
		{"signal", []string{"sh", "-c", "kill -TERM $$"}, 128 + 15, ""},
		{"kill", []string{"sh", "-c", "kill -KILL $$"}, 128 + 9, ""},
		{"not found", []string{"no-such-program"}, 127, "no-such-program: command not found"},
		{"no path", []string{"/no/such/program"}, 127, "/no/such/program: command not found"},
		{"interpreter", []string{filepath.Join(dir, "interpreter")}, 127, "its interpreter"},
		{"not executable", []string{filepath.Join(dir, "forbidden")}, 126, "permission denied"},
		{"directory", []string{dir}, 126, "permission denied"},
		{"not a program", []string{filepath.Join(dir, "binary")}, 126, "not a program"},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, _, stderr := run(t, part{Command: test.command})
			if status != test.status || !strings.Contains(stderr, test.message) {
				t.Errorf("exit status %d, want %d; message %q, want %q", status, test.status, stderr, test.message)
			}
		})
	}
}

// A command that root may run and the agent may not is passed over, as execvp does.
func TestCommandIsSearchedWithTheAgentsRights(t *testing.T) {
	dir := publicDir(t)
	if err := os.WriteFile(filepath.Join(dir, "true"), []byte("#!/bin/sh\nexit 9\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	mustRun(t, part{Command: []string{"true"}}, withEnv("PATH="+dir+":/usr/bin:/bin"))
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if status, _, stderr := run(t, part{Command: []string{"no-such-program"}}, withEnv("PATH="+dir+":/usr/bin")); status != ExitNotFound {
		t.Errorf("exit status %d: %s", status, stderr)
	}
}

func TestSignalsAreForwarded(t *testing.T) {
	eachUser(t, func(t *testing.T, options ...option) {
		s := start(t, sh(`for s in HUP INT QUIT USR1 USR2 WINCH TERM; do trap "echo got-$s" $s; done
			trap 'echo got-TERM; exit 7' TERM; echo set; while :; do read x || sleep 1; done`), options...)
		s.stdout.await(t, "set")
		for _, sig := range Forwarded() {
			name := strings.TrimPrefix(unix.SignalName(sig.(unix.Signal)), "SIG")
			if name == "TERM" {
				continue
			}
			s.cmd.Process.Signal(sig)
			// A shell runs a trap between commands.
			fmt.Fprintln(s.stdin)
			s.stdout.await(t, "got-"+name)
		}
		s.cmd.Process.Signal(unix.SIGTERM)
		fmt.Fprintln(s.stdin)
		if status := s.wait(); status != 7 {
			t.Errorf("exit status %d, want 7: %s", status, s.stdout)
		}
	})
}

func TestOrphansAreReaped(t *testing.T) {
	out := mustRun(t, sh(`sh -c 'sleep 0.2 & echo $!' > /run/orphan; orphan=$(cat /run/orphan)
		while grep -qs State /proc/$orphan/status; do sleep 0.05; done; echo reaped`))
	if out != "reaped\n" {
		t.Errorf("got %q", out)
	}
}

func TestNothingIsInherited(t *testing.T) {
	secret, err := os.Open("/etc/shadow")
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Close()
	eachUser(t, func(t *testing.T, options ...option) {
		options = append(options, withFile(secret), withEnv(
			"SALLYPORT_TOKEN=secret", "HTTPS_PROXY=http://outer", "https_proxy=http://outer", "SSH_AUTH_SOCK=/x", "KEPT=yes"))
		out := mustRun(t, sh("PROBE descriptors; env"), options...)
		var open []string
		for line := range strings.Lines(out) {
			if fd, ok := strings.CutPrefix(line, "open: "); ok {
				open = append(open, strings.TrimSpace(fd))
			}
			for _, name := range []string{"SALLYPORT", "HTTPS_PROXY", "https_proxy", "SSH_AUTH_SOCK"} {
				if strings.HasPrefix(line, name) {
					t.Errorf("inherited %s", line)
				}
			}
		}
		if strings.Join(open, " ") != "0 1 2" {
			t.Errorf("descriptors %v are open", open)
		}
		if !strings.Contains(out, "KEPT=yes\n") {
			t.Error("an ordinary variable was lost")
		}
	})
}

// The agent's kill(0) and kill(-1) must not reach init, nor what was started with it.
func TestAgentSignalsOnlyItself(t *testing.T) {
	eachUser(t, func(t *testing.T, options ...option) {
		for _, target := range []string{"0", "-1", "1"} {
			status, _, stderr := run(t, sh("kill -KILL "+target+"; exit 5"), options...)
			if status != 5 && status != 128+9 || !strings.Contains(stderr, "drained") {
				t.Errorf("kill %s: exit status %d, %s", target, status, stderr)
			}
		}
	})
}

func TestNothingIsLeft(t *testing.T) {
	eachUser(t, func(t *testing.T, options ...option) {
		before, err := os.ReadFile("/proc/self/mounts")
		if err != nil {
			t.Fatal(err)
		}
		s := start(t, sh("setsid sleep 1000 & sleep 1000 & echo started; read x"), options...)
		s.stdout.await(t, "started")
		var all []watched
		for _, pid := range descendants(t, s.cmd.Process.Pid) {
			all = append(all, watch(t, pid))
		}
		if len(all) < 5 {
			t.Fatalf("%d processes, want worker, stage, shell and two sleeps at least", len(all))
		}
		s.stdin.Close()
		s.wait()
		for _, w := range all {
			w.awaitEnd(t)
		}
		after, err := os.ReadFile("/proc/self/mounts")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(after), "sallyport") || strings.Count(string(after), "\n") > strings.Count(string(before), "\n") {
			t.Errorf("mounts before:\n%s\nafter:\n%s", before, after)
		}
	})
}

func TestKilledInitTakesAllWithIt(t *testing.T) {
	eachUser(t, func(t *testing.T, options ...option) {
		s := start(t, sh("setsid sleep 1000 & echo started; read x"), options...)
		s.stdout.await(t, "started")
		pids := descendants(t, s.cmd.Process.Pid)
		var all []watched
		for _, pid := range pids {
			all = append(all, watch(t, pid))
		}
		s.cmd.Process.Kill()
		s.wait()
		for _, w := range all {
			w.awaitEnd(t)
		}
	})
}

// A parent that asked for SIGTERM at its death, as "sallyport run" does, takes
// along even an agent that ignores it.
func TestKilledParentTakesAllWithIt(t *testing.T) {
	eachUser(t, func(t *testing.T, options ...option) {
		t.Parallel()
		parent := wrapped("sh", "-c", `setpriv --pdeathsig TERM "$@" & wait`, "sh")
		s := start(t, sh("trap '' TERM; echo started; exec sleep 1000"), append(options, parent)...)
		s.stdout.await(t, "started")
		var all []watched
		for _, pid := range descendants(t, s.cmd.Process.Pid) {
			all = append(all, watch(t, pid))
		}
		s.cmd.Process.Kill()
		s.wait()
		for _, w := range all {
			w.awaitEnd(t)
		}
		if !strings.Contains(s.stderr.String(), "drained") {
			t.Errorf("the worker was not drained: %s", s.stderr)
		}
	})
}

func TestStopsBeforeTheAgent(t *testing.T) {
	t.Run("worker fails", func(t *testing.T) {
		p := sh("echo started")
		p.Behaviour = "fail"
		status, stdout, stderr := run(t, p)
		if status != ExitFailure || stdout != "" || !strings.Contains(stderr, "no such control plane") || !strings.Contains(stderr, "before it served") {
			t.Errorf("exit status %d, %q, %q", status, stdout, stderr)
		}
	})
	t.Run("worker hangs", func(t *testing.T) {
		p := sh("echo started")
		p.Behaviour, p.Start = "hang", 100*time.Millisecond
		status, stdout, stderr := run(t, p)
		if status != ExitFailure || stdout != "" || !strings.Contains(stderr, "did not serve within") {
			t.Errorf("exit status %d, %q, %q", status, stdout, stderr)
		}
	})
}

// Some ways to make an image leave its root to root alone.
func TestRootThatOthersMayNotEnter(t *testing.T) {
	closed := wrapped("unshare", "--mount", "sh", "-ec", `mount -t tmpfs -o mode=0700 none /mnt
		for d in bin dev etc lib lib64 proc run sbin sys tmp usr var; do mkdir /mnt/$d; mount --rbind /$d /mnt/$d; done
		exec /usr/sbin/chroot /mnt "$@"`, "sh")
	status, stdout, stderr := run(t, sh("echo started"), closed)
	if status == 0 || stdout != "" || !strings.Contains(stderr, "may not enter /, whose mode is 0700") {
		t.Errorf("exit status %d, %q, %q", status, stdout, stderr)
	}
}

func TestServeWithoutAgent(t *testing.T) {
	s := start(t, part{})
	s.stderr.await(t, "ready")
	s.cmd.Process.Signal(unix.SIGWINCH)
	s.cmd.Process.Signal(unix.SIGTERM)
	if status := s.wait(); status != 0 || !strings.Contains(s.stderr.String(), "drained") {
		t.Errorf("exit status %d: %s", status, s.stderr)
	}
}
