package supervise

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ask is a shell function that asks the worker; the kernel keeps connections
// for the listener while no worker is there.
const ask = `ask() { curl -sS --retry 5 --retry-all-errors --max-time 20 http://127.0.0.1:15001/$1; }; `

func TestWorkerIsConfined(t *testing.T) {
	eachUser(t, func(t *testing.T, options ...option) {
		s := start(t, sh(ask+"ask attack; echo asked; read x"), options...)
		s.stdout.await(t, "asked")
		expect(t, strings.Replace(s.stdout.String(), "asked\n", "", 1), map[string]string{
			"capabilities":    "open /etc/sallyport-attack: permission denied",
			"read passwd":     "<nil>",
			"read elsewhere":  "open /usr/bin/env: permission denied",
			"write elsewhere": "open /tmp/sallyport-attack: permission denied",
			"signal init":     "operation not permitted",
			"exec":            "fork/exec /bin/true: operation not permitted|fork/exec /bin/true: permission denied",
			"unix socket":     "operation not permitted",
			"ptrace init":     "operation not permitted",
			"environ of init": fmt.Sprintf("open /proc/%d/environ: permission denied", parent(t, s.process("worker"))),
			"own *":           "<nil>",
			"statfs":          "<nil>",
			"udp socket":      "<nil>",
			"fork":            "operation not permitted",
			"clone *":         "operation not permitted",
			"clone3":          "function not implemented",
			"map code":        "operation not permitted",
			"make code":       "operation not permitted",
			"call *":          "operation not permitted",
		})
		status := procStatus(t, s.process("worker"))
		for name, want := range map[string]string{
			"CapInh": "0000000000000000", "CapPrm": "0000000000000000", "CapEff": "0000000000000000",
			"CapBnd": "0000000000000000", "CapAmb": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2", "Groups": "",
		} {
			if status[name] != want {
				t.Errorf("%s of the worker is %q, want %q", name, status[name], want)
			}
		}
		// The kernel gives the files of a process that may not be looked into to root.
		if info, err := os.Stat(fmt.Sprintf("/proc/%d/environ", s.process("worker"))); err != nil || len(options) == 0 && info.Sys().(*syscall.Stat_t).Uid != 0 {
			t.Errorf("the worker can be looked into: %v", err)
		}
		uid := "65532\t65532\t65532\t65532"
		if len(options) > 0 {
			uid = strings.ReplaceAll(uid, "65532", fmt.Sprint(ordinaryUser))
		}
		if status["Uid"] != uid {
			t.Errorf("the worker's uids are %q, want %q", status["Uid"], uid)
		}
	})
}

func TestInitGivesUpWhatItUsed(t *testing.T) {
	s := start(t, sh("echo started; read x"))
	s.stdout.await(t, "started")
	for procStatus(t, s.cmd.Process.Pid)["Seccomp"] != "2" {
		runtime.Gosched() // the filter comes with the agent
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", s.cmd.Process.Pid))
	if err != nil || !regexp.MustCompile(`Max core file size +0 +0 `).Match(limits) {
		t.Errorf("core files are allowed: %v\n%s", err, limits)
	}
	limits, err = os.ReadFile(fmt.Sprintf("/proc/%d/limits", s.process("worker")))
	files := regexp.MustCompile(`Max open files +(\d+) +(\d+) `).FindSubmatch(limits)
	if err != nil || files == nil || !bytes.Equal(files[1], files[2]) {
		t.Errorf("the worker may have fewer descriptors than it could: %v\n%s", err, limits)
	}
}

func TestStageHasNoCapability(t *testing.T) {
	eachUser(t, func(t *testing.T, options ...option) {
		s := start(t, sh("echo started; read x"), options...)
		s.stdout.await(t, "started")
		stage := s.process("stage")
		for procStatus(t, stage)["CapPrm"] != "0000000000000000" {
			runtime.Gosched() // it drops the last ones once the agent runs
		}
		status := procStatus(t, stage)
		for name, want := range map[string]string{
			"CapPrm": "0000000000000000", "CapEff": "0000000000000000", "CapBnd": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2",
		} {
			if status[name] != want {
				t.Errorf("%s of the sandbox's PID 1 is %q, want %q", name, status[name], want)
			}
		}
		if environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", stage)); err != nil || len(environ) != 0 {
			t.Errorf("its environment is %q, %v", environ, err)
		}
	})
}

func TestKilledWorkerComesBack(t *testing.T) {
	eachUser(t, func(t *testing.T, options ...option) {
		p := sh(ask + "while read path; do ask $path; done")
		s := start(t, p, options...)
		for i := 1; i <= 4; i++ {
			fmt.Fprintln(s.stdin, "x")
			s.stdout.await(t, fmt.Sprintf("worker %d of ", i))
			w := watch(t, s.process("worker"))
			if err := unix.Kill(w.pid, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			w.awaitEnd(t)
		}
		fmt.Fprintln(s.stdin, "x")
		s.stdout.await(t, "worker 5 of ")
		s.stderr.await(t, "the worker died and is started again")
		s.stdin.Close()
		if status := s.wait(); status != 0 {
			t.Errorf("exit status %d: %s", status, s.stderr)
		}
	})
}

func TestWorkerWithAnotherCAEndsTheSandbox(t *testing.T) {
	p := sh("echo started; read x")
	p.Behaviour = "other CA"
	s := start(t, p)
	s.stdout.await(t, "started")
	if err := unix.Kill(s.process("worker"), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if status := s.wait(); status != ExitFailure || !strings.Contains(s.stderr.String(), "another CA") {
		t.Errorf("exit status %d: %s", status, s.stderr)
	}
}

func TestLateWorkerIsKilled(t *testing.T) {
	p := part{Command: []string{"true"}, Behaviour: "never drain", Drain: 100 * time.Millisecond}
	status, _, stderr := run(t, p)
	if status != 0 || !strings.Contains(stderr, "is killed") {
		t.Errorf("exit status %d: %s", status, stderr)
	}
}

func procStatus(t *testing.T, pid int) map[string]string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	status := make(map[string]string)
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ":")
		status[name] = strings.TrimSpace(value)
	}
	return status
}

func parent(t *testing.T, pid int) int {
	t.Helper()
	var ppid int
	if _, err := fmt.Sscan(procStatus(t, pid)["PPid"], &ppid); err != nil {
		t.Fatal(err)
	}
	return ppid
}
