package supervise

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// ordinaryUser is a uid that nobody has.
const ordinaryUser = 31337

// eachUser runs a test as root and as an ordinary user: neither may be weaker.
func eachUser(t *testing.T, test func(t *testing.T, options ...option)) {
	t.Run("root", func(t *testing.T) { test(t) })
	t.Run("rootless", func(t *testing.T) { test(t, asUser(ordinaryUser), withEnv("HOME=/nonexistent")) })
}

// expect checks that what came of each attack is one of the results that are
// allowed, by its name or, before a "*", the start of its name.
func expect(t *testing.T, output string, allowed map[string]string) {
	t.Helper()
	seen := make(map[string]bool)
	for line := range strings.Lines(output) {
		name, result, _ := strings.Cut(strings.TrimSpace(line), ": ")
		want := ""
		for pattern, results := range allowed {
			if prefix, ok := strings.CutSuffix(pattern, "*"); pattern == name || ok && strings.HasPrefix(name, prefix) {
				want = results
				seen[pattern] = true
			}
		}
		ok := false
		for w := range strings.SplitSeq(want, "|") {
			ok = ok || result == w
		}
		if !ok {
			t.Errorf("%s: %s; want %s", name, result, want)
		}
	}
	for pattern := range allowed {
		if !seen[pattern] {
			t.Errorf("%s was not tried", pattern)
		}
	}
}

func TestAgentCannotReachProcesses(t *testing.T) {
	eachUser(t, func(t *testing.T, options ...option) {
		s := start(t, sh("read pids; exec PROBE processes $pids"), options...)
		s.stderr.await(t, "ready")
		fmt.Fprintln(s.stdin, s.cmd.Process.Pid, s.process("worker"))
		if status := s.wait(); status != 0 {
			t.Fatalf("exit status %d: %s", status, s.stderr)
		}
		expect(t, s.stdout.String(), map[string]string{
			"outside kill":             "ESRCH",
			"outside ptrace":           "ESRCH",
			"outside pidfd":            "ESRCH",
			"outside process_vm_readv": "ESRCH",
			"outside environ":          "ENOENT",
			"outside mem":              "ENOENT",
			"outside maps":             "ENOENT",
			"outside fd":               "ENOENT",
			"outside root":             "ENOENT",
			"outside ns/net":           "ENOENT",
			"pid 1 ptrace":             "EPERM",
			"pid 1 process_vm_readv":   "EPERM",
			"pid 1 pidfd_getfd":        "EPERM",
			"pid 1 environ":            "ENOENT",
			"pid 1 mem":                "ENOENT",
			"pid 1 maps":               "ENOENT",
			"pid 1 fd":                 "ENOENT",
			"pid 1 root":               "ENOENT",
			"pid 1 ns/net":             "ENOENT",
		})
	})
}

func TestAgentCannotUndoMounts(t *testing.T) {
	eachUser(t, func(t *testing.T, options ...option) {
		out := mustRun(t, part{Command: []string{"probe", "mounts"}}, options...)
		expect(t, out, map[string]string{
			"write trust":       "EROFS",
			"replace trust":     "EBUSY|EPERM",
			"write resolv.conf": "EROFS",
			"write /proc/sys":   "EROFS",
			"mknod":             "EPERM",
			"here umount *":     "EPERM",
			"here remount *":    "EPERM",
			"own umount *":      "EINVAL", // locked
			"own remount *":     "EPERM",
			"own mount *":       "EPERM",
			"here mount sysfs":  "EPERM",
			"here mount disk":   "EPERM|ENOENT",
			"unshare":           "done",
			"mknod in own":      "EPERM",
		})
	})
}

func TestAgentCannotChangeNetwork(t *testing.T) {
	outer := filepath.Join(publicDir(t), "netns")
	if err := os.WriteFile(outer, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("/proc/self/ns/net", outer, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(outer, unix.MNT_DETACH) })
	eachUser(t, func(t *testing.T, options ...option) {
		out := mustRun(t, part{Command: []string{"probe", "network", outer}}, options...)
		expect(t, out, map[string]string{
			"enter the outer network": "EPERM",
			"enter the own network":   "EPERM",
			"owner of the network":    "EPERM",
			"raw socket":              "EPERM",
			"packet socket":           "EPERM",
			"mark":                    "EPERM",
			"lo down":                 "EPERM",
		})
	})
}

func TestAgentCallsRefused(t *testing.T) {
	eachUser(t, func(t *testing.T, options ...option) {
		out := mustRun(t, part{Command: []string{"probe", "calls"}}, options...)
		expect(t, out, map[string]string{
			"bpf": "EPERM", "perf_event_open": "EPERM", "userfaultfd": "EPERM", "keyctl": "EPERM", "add_key": "EPERM",
			"open_by_handle_at": "EPERM", "finit_module": "EPERM", "kexec_load": "EPERM", "io_uring_setup": "ENOSYS",
			"vsock": "EPERM", "vsock disguised": "EPERM", "alg": "EPERM", "inet disguised": "EPERM",
			"tiocsti": "EPERM", "tiocsti disguised": "EPERM", "tiocsti signed": "EPERM", "tioclinux": "EPERM",
			"other ioctl": "EBADF",
			"foreign ABI": fmt.Sprint(-int(unix.ENOSYS)),
		})
	})
}
