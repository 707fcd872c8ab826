package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// traces is what a world could leave on the machine.
type traces struct {
	children   []int    // of this process, orphans of its descendants included
	interfaces []string // of this process's network namespace
	mounts     []string
}

// leftovers looks at the machine. From the first look on, whoever loses its
// parent below this process becomes its child, so nobody can slip away.
func leftovers(t testing.TB) traces {
	t.Helper()
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	var found traces
	found.children = children(os.Getpid())
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		found.interfaces = append(found.interfaces, link.Name)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		// Those of a world, and those that keep a namespace.
		if strings.Contains(line, "/sallyport-") || strings.Contains(line, " - nsfs ") {
			found.mounts = append(found.mounts, strings.Fields(line)[4])
		}
	}
	return found
}

// LeavesNothing fails the test, at its end, when something is left of what it did.
func LeavesNothing(t testing.TB) {
	t.Helper()
	before := leftovers(t)
	t.Cleanup(func() { checkLeftovers(t, before) })
}

// checkLeftovers fails the test when something is there that was not there
// before: a process, an interface, or a mount (which also is how a namespace
// outlives its processes).
func checkLeftovers(t testing.TB, before traces) {
	t.Helper()
	// Orphans that have ended are reaped, the others get a moment to end.
	var after traces
	gone := func() bool {
		after = leftovers(t)
		for _, pid := range after.children {
			if processState(pid) == 'Z' {
				_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
			}
		}
		return len(added(before.children, children(os.Getpid()))) == 0
	}
	for range 100 {
		if gone() {
			break
		}
		unix.Nanosleep(&unix.Timespec{Nsec: 20e6}, nil)
	}
	after = leftovers(t)
	for _, pid := range added(before.children, after.children) {
		t.Errorf("process %d is still there: %s", pid, commandLine(pid))
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	for _, link := range added(before.interfaces, after.interfaces) {
		t.Errorf("network interface %s is still there", link)
	}
	for _, mount := range added(before.mounts, after.mounts) {
		t.Errorf("mount %s is still there", mount)
	}
}

func added[T comparable](before, after []T) []T {
	return slices.DeleteFunc(slices.Clone(after), func(x T) bool { return slices.Contains(before, x) })
}

// children gives the processes whose parent is pid.
func children(pid int) []int {
	var found []int
	for other, stat := range processes() {
		if stat.parent == pid {
			found = append(found, other)
		}
	}
	return found
}

// Descendants gives the processes below pid.
func Descendants(pid int) []int {
	var below []int
	for _, child := range children(pid) {
		below = append(append(below, child), Descendants(child)...)
	}
	return below
}

// Running tells whether there is such a process, that has not ended.
func Running(pid int) bool { state := processState(pid); return state != 0 && state != 'Z' }

// Parent gives the process that pid is a child of.
func Parent(pid int) int { return processes()[pid].parent }

type stat struct {
	parent int
	state  byte
}

// processes reads /proc (proc_pid_stat(5)).
func processes() map[int]stat {
	found := map[int]stat{}
	files, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is well formed
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		// The command's name is in parentheses and may hold any character.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		parent, _ := strconv.Atoi(fields[1])
		found[pid] = stat{parent: parent, state: fields[0][0]}
	}
	return found
}

// processState is R, S, Z and so on, 0 when there is no such process.
func processState(pid int) byte { return processes()[pid].state }

func commandLine(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || len(text) == 0 {
		return "(unknown)"
	}
	return strings.TrimSpace(strings.ReplaceAll(string(text), "\x00", " "))
}
