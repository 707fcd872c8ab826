package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// WorkerMemory is how many bytes the worker of a sandbox has resident.
func (p *Program) WorkerMemory() int {
	p.w.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Worker()))
	p.w.must(err)
	return field(string(status), "VmRSS:") << 10
}

// WorkerFiles is how many descriptors the worker of a sandbox has.
func (p *Program) WorkerFiles() int {
	p.w.t.Helper()
	info, err := os.Stat(fmt.Sprintf("/proc/%d/fd", p.Worker()))
	p.w.must(err)
	return int(info.Size()) // their number, since Linux 6.2
}

// InWorkerMemory counts the copies of each secret in the memory of a sandbox's
// worker, in every form that e2e/search knows.
func (p *Program) InWorkerMemory(secrets map[string]string) map[string]int {
	p.w.t.Helper()
	var lines strings.Builder
	for name, secret := range secrets {
		fmt.Fprintln(&lines, name, secret)
	}
	cmd := exec.Command(filepath.Join(p.w.Dir, "tools", "search"), "--process", strconv.Itoa(p.Worker()))
	cmd.Stdin = strings.NewReader(lines.String())
	report, err := cmd.CombinedOutput()
	if err != nil {
		p.w.t.Fatalf("search the worker's memory: %v\n%s", err, report)
	}
	found := make(map[string]int)
	for name := range secrets {
		// NAME: environment 0, arguments 0, memory N, disk 0
		_, counts, ok := strings.Cut("\n"+string(report), "\n"+name+": ")
		_, memory, _ := strings.Cut(counts, "memory ")
		count, err := strconv.Atoi(memory[:max(strings.Index(memory, ","), 0)])
		if !ok || err != nil {
			p.w.t.Fatalf("the search says nothing of %s:\n%s", name, report)
		}
		found[name] = count
	}
	return found
}

// Worker is the process id of a sandbox's worker.
func (p *Program) Worker() int {
	p.w.t.Helper()
	worker := p.FindWorker()
	if worker == 0 {
		p.w.t.Fatalf("%s has no worker", p.name)
	}
	return worker
}

// FindWorker is Worker, or 0 while there is none.
func (p *Program) FindWorker() int {
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
				return worker
			}
		}
	}
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
