package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// WorkerMemory is how many bytes the worker of a sandbox has resident.
func (p *Program) WorkerMemory() int {
	p.w.t.Helper()
	parents := make(map[int]int)
	var workers []int
	directories, err := filepath.Glob("/proc/[0-9]*")
	p.w.must(err)
	for _, directory := range directories {
		pid, err := strconv.Atoi(filepath.Base(directory))
		p.w.must(err)
		status, _ := os.ReadFile(directory + "/status")
		parents[pid] = field(string(status), "PPid:")
		arguments, _ := os.ReadFile(directory + "/cmdline") // both may have ended meanwhile
		if slices.ContainsFunc(bytes.Split(arguments, []byte{0}), func(a []byte) bool { return string(a) == "worker" }) {
			workers = append(workers, pid)
		}
	}
	for _, worker := range workers {
		for ancestor := worker; ancestor > 1; ancestor = parents[ancestor] {
			if ancestor == p.PID {
				status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", worker))
				p.w.must(err)
				return field(string(status), "VmRSS:") << 10
			}
		}
	}
	p.w.t.Fatalf("%s has no worker", p.name)
	return 0
}

// field is a number in a file of /proc, 0 when there is none.
func field(text, name string) int {
	_, rest, _ := strings.Cut(text, "\n"+name)
	words := strings.Fields(rest)
	if len(words) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(words[0])
	return n
}
