package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"
)

// mostOfOne is how many connections one process opens.
const mostOfOne = 12_000

// spread has a flood come from as many processes as it takes.
func spread(name string) func(*flooder) {
	return func(f *flooder) {
		parts := (f.size + mostOfOne - 1) / mostOfOne
		var all sync.WaitGroup
		for range parts {
			all.Go(func() {
				result, err := f.start(name, f.size/parts)
				f.mu.Lock()
				defer f.mu.Unlock()
				f.opened, f.refused, f.failed = f.opened+result.Opened, f.refused+result.Refused, errors.Join(f.failed, err)
			})
		}
		all.Wait()
	}
}

// start runs a part in a process of its own, to the end.
func (f *flooder) start(name string, size int) (result Result, err error) {
	cmd := exec.Command("/proc/self/exe", f.host, strconv.Itoa(size), f.hold.String(), name)
	cmd.Stderr = os.Stderr
	said, err := cmd.Output()
	if err != nil {
		return result, fmt.Errorf("a part of the flood: %w", err)
	}
	return result, json.Unmarshal(said, &result)
}

// part is what start runs.
func (f *flooder) part(hold, name string) (err error) {
	flood, known := floods[name]
	if !known {
		return fmt.Errorf("no flood is called %q", name)
	}
	if f.hold, err = time.ParseDuration(hold); err != nil {
		return err
	}
	flood(f)
	return json.NewEncoder(os.Stdout).Encode(Result{Opened: f.opened, Refused: f.refused})
}
