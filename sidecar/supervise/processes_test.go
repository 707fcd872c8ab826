package supervise

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pidsGroup is a control group that holds so many processes and threads, and a file that
// who writes to joins it.
func pidsGroup(t *testing.T, most int) (join string) {
	t.Helper()
	root := "/sys/fs/cgroup"
	if _, err := os.Stat(root + "/cgroup.controllers"); err != nil {
		root += "/pids"
	} else if err := os.WriteFile(root+"/cgroup.subtree_control", []byte("+pids"), 0); err != nil {
		t.Fatalf("let control groups count processes: %v", err)
	}
	dir := filepath.Join(root, fmt.Sprintf("sallyport-test-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for errors.Is(os.Remove(dir), unix.EBUSY) { // they are gone soon
			time.Sleep(time.Millisecond)
		}
	})
	if err := os.WriteFile(dir+"/pids.max", fmt.Append(nil, most), 0); err != nil {
		t.Fatal(err)
	}
	join = dir + "/cgroup.procs"
	if err := os.Chmod(join, 0o666); err != nil {
		t.Fatal(err)
	}
	return join
}

// A fork bomb takes what its control group has for the agent, and leaves the sidecar
// what it needs to go on: even a worker that dies is replaced.
func TestForkBombLeavesRoom(t *testing.T) {
	eachUser(t, func(t *testing.T, options ...option) {
		join := pidsGroup(t, 250)
		bomb := `perl -e '$|=1; for (;;) { $p = fork; if (!defined $p) { print "bombed\n" unless $said++; select(undef, undef, undef, 0.001) } elsif (!$p) { sleep 1000; exit } }' & `
		s := start(t, sh(bomb+"read x; exec curl -sS --retry 5 --retry-all-errors --max-time 20 http://127.0.0.1:15001/attack"),
			append(options, wrapped("sh", "-c", `echo $$ >`+join+`; exec "$@"`, "sh"))...)
		s.stdout.await(t, "bombed")
		n := len(descendants(t, s.cmd.Process.Pid))
		worker := watch(t, s.process("worker"))
		if err := unix.Kill(worker.pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		worker.awaitEnd(t)
		if _, err := s.stdin.Write([]byte("\n")); err != nil {
			t.Fatal(err)
		}
		if status := s.wait(); status != 0 || !strings.Contains(s.stdout.String(), "capabilities") {
			t.Errorf("exit status %d, with %d processes:\n%s%s", status, n, s.stdout, s.stderr)
		}
	})
}
