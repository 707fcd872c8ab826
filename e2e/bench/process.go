package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"sallyport/e2e/stage"
)

// process is one that is talked to by jobs.
type process struct {
	*stage.Process
	outcomes *json.Decoder
}

// launch starts a client, or a proxy that starts it, on a core.
func (w *world) launch(core int, command ...string) (*process, error) {
	p, err := w.Launch(core, command...)
	if err != nil {
		return nil, err
	}
	return &process{p, json.NewDecoder(p.Output)}, nil
}

// do sends a job, and waits for its outcome.
func (p *process) do(j job) (outcome, error) {
	if err := p.begin(j); err != nil {
		return outcome{}, err
	}
	return p.end()
}

func (p *process) begin(j job) error {
	if err := json.NewEncoder(p.Input).Encode(j); err != nil {
		return fmt.Errorf("the client ended: %s", p.Log)
	}
	return nil
}

func (p *process) end() (outcome, error) {
	var result outcome
	if err := p.outcomes.Decode(&result); err != nil {
		return result, fmt.Errorf("the client ended: %w: %s", err, p.Log)
	}
	if result.Error != "" {
		return result, errors.New(result.Error)
	}
	return result, nil
}

// proxies gives the processes at and below root, less the client that a proxy may have
// started: what does the work of the proxy.
func proxies(root int) []int {
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, stat := range stats {
		line, err := os.ReadFile(stat)
		if err != nil {
			continue // it ended meanwhile
		}
		fields := strings.Fields(string(line[bytes.LastIndexByte(line, ')')+1:]))
		parent, _ := strconv.Atoi(fields[1])
		child, _ := strconv.Atoi(filepath.Base(filepath.Dir(stat)))
		children[parent] = append(children[parent], child)
	}
	var found []int
	for waiting := []int{root}; len(waiting) > 0; waiting = waiting[1:] {
		pid := waiting[0]
		command, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if words := strings.Split(string(command), "\x00"); len(words) > 1 && words[1] == "client" {
			continue
		}
		found = append(found, pid)
		waiting = append(waiting, children[pid]...)
	}
	return found
}

// cpu is the time that all threads of the processes have run, which
// /proc/PID/task/TID/schedstat counts in nanoseconds.
func cpu(pids []int) time.Duration {
	var sum time.Duration
	for _, pid := range pids {
		stats, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		for _, stat := range stats {
			text, err := os.ReadFile(stat)
			if err != nil {
				continue
			}
			var ns int64
			fmt.Sscan(string(text), &ns)
			sum += time.Duration(ns)
		}
	}
	return sum
}

// memory is the proportional set size of the processes, in bytes: what they share is
// counted once.
func memory(pids []int) float64 { return kilobytes(pids, "smaps_rollup", "Pss:") }

// peak is the greatest resident set size of the processes since forgetPeak, in bytes.
func peak(pids []int) float64 { return kilobytes(pids, "status", "VmHWM:") }

func forgetPeak(pids []int) error {
	for _, pid := range pids {
		// proc(5): 5 sets the peak to what is resident now.
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
			return err
		}
	}
	return nil
}

func kilobytes(pids []int, file, field string) float64 {
	var sum float64
	for _, pid := range pids {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file)) // one that has ended has none
		for line := range strings.Lines(string(text)) {
			if value, found := strings.CutPrefix(line, field); found {
				var kb float64
				fmt.Sscan(value, &kb)
				sum += kb * 1024
			}
		}
	}
	return sum
}
