// Command flood does to the sidecar of its sandbox what is meant to exhaust it,
// while another client of the same sandbox goes on asking.
//
//	flood HOST N
//
// says that it is ready, reads the names of floods from standard input, one a line, and prints for each
// what came of it, as JSON. N is how large floods are: connections, or hundreds of
// frames on each of a few. A flood that takes more descriptors than a process may
// have comes from several, each of which is this program again:
//
//	flood HOST N HOLD NAME
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	size, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	// The larger a flood, the longer it takes to come.
	f := &flooder{host: args[0], size: size, hold: min(300*time.Millisecond+time.Duration(size)*time.Millisecond, 10*time.Second)}
	if err := f.raiseFiles(); err != nil {
		return err
	}
	if len(args) > 2 {
		return f.part(args[2], args[3])
	}
	fmt.Println("ready")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		flood, known := floods[lines.Text()]
		if !known {
			return fmt.Errorf("no flood is called %q", lines.Text())
		}
		if size > mostOfOne {
			flood = spread(lines.Text())
		}
		result, err := f.measure(flood)
		if err != nil {
			return err
		}
		if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
			return err
		}
	}
	return lines.Err()
}

// Result is what came of a flood.
type Result struct {
	Opened  int      // connections of the flood that were accepted
	Refused int      // connections, requests or frames of it that were refused or cut off
	Asked   int      // requests of the other client meanwhile
	Failed  int      // of those
	Errors  []string // why, once each
	Idle    float64  // median time of a request without the flood, ms
	Flooded float64  // and with it
	Worst   float64
}

// measure asks on connections of its own, before the flood and all the while.
func (f *flooder) measure(flood func(*flooder)) (Result, error) {
	f.opened, f.refused, f.failed = 0, 0, nil
	idle, _ := f.ask(make(chan struct{}), 20)
	ended := make(chan struct{})
	var times []time.Duration
	var failures []error
	var asking sync.WaitGroup
	asking.Go(func() { times, failures = f.ask(ended, 1<<30) })
	flood(f)
	close(ended)
	asking.Wait()
	result := Result{Opened: f.opened, Refused: f.refused, Asked: len(times) + len(failures), Failed: len(failures), Idle: middle(idle), Flooded: middle(times)}
	for _, err := range failures {
		if text := err.Error(); !slices.Contains(result.Errors, text) {
			result.Errors = append(result.Errors, text)
		}
	}
	if len(times) > 0 {
		result.Worst = milliseconds(slices.Max(times))
	}
	return result, f.failed
}

// ask sends one request after another until ended is closed, every second one on a
// new connection. The last begins before the end.
func (f *flooder) ask(ended <-chan struct{}, most int) (times []time.Duration, failures []error) {
	kept, fresh := new(http.Transport), &http.Transport{DisableKeepAlives: true}
	defer kept.CloseIdleConnections()
	for i := range most {
		select {
		case <-ended:
			return times, failures
		case <-time.After(10 * time.Millisecond):
		}
		client := http.Client{Transport: kept, Timeout: 20 * time.Second}
		if i%2 == 1 {
			client.Transport = fresh
		}
		start := time.Now()
		response, err := client.Get("https://" + f.host + "/beside")
		if err == nil {
			_, err = io.Copy(io.Discard, response.Body)
			response.Body.Close()
			if err == nil && response.StatusCode != http.StatusOK {
				err = fmt.Errorf("status %d, %s", response.StatusCode, response.Header.Get("Sallyport-Error"))
			}
		}
		if err != nil {
			failures = append(failures, err)
		} else {
			times = append(times, time.Since(start))
		}
	}
	return times, failures
}

func middle(times []time.Duration) float64 {
	if len(times) == 0 {
		return 0
	}
	return milliseconds(slices.Sorted(slices.Values(times))[len(times)/2])
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
