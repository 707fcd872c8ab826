package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// holdWay loads one way and says each second or so what it costs.
func holdWay(w *world, out io.Writer) error {
	y := w.chosenWays()[0]
	if !slices.Contains(y.protocols, w.protocol) {
		return fmt.Errorf("%s speaks %s, not %q", y.name, strings.Join(y.protocols, ", "), w.protocol)
	}
	i, err := w.start(y)
	if err != nil {
		return err
	}
	defer i.stop()
	warm := job{Do: "load", Protocol: clientProtocol(w.protocol), Name: i.host(w.protocol), Connections: w.connections,
		Requests: w.connections, Limit: time.Minute, Want: i.want(w.protocol)}
	if _, err := i.client.do(warm); err != nil { // so that the proxy is there
		return err
	}
	for _, pid := range i.proxies() {
		command, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // one that has ended has none
		words := strings.SplitN(string(command), "\x00", 3)
		fmt.Fprintf(out, "pid %d: %s, %.1f MiB\n", pid, strings.Join(words[:min(2, len(words))], " "), memory([]int{pid})/(1<<20))
	}
	for end := time.Now().Add(w.hold); time.Now().Before(end) && w.ctx.Err() == nil; {
		j := warm
		j.Requests, j.Limit = 1<<20, time.Second
		got, err := costing(i, j)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%.0f requests/s, p50 %.0f µs, p99 %.0f µs, proxy CPU a request %.1f µs\n", got["rate"], got["p50"]*1e6, got["p99"]*1e6, got["cpu"]*1e6)
	}
	return nil
}
