package main

import (
	"fmt"
	"time"
)

// measureRotations rotates a credential under load and counts the requests that began
// after the call had returned and still got the old value.
func (w *world) measureRotations(r *report) error {
	y := wayNamed("inject")
	i, err := w.start(y)
	if err != nil {
		return err
	}
	defer i.stop()
	// The next measure expects the value that it began with.
	defer w.rotate(secret)
	for n := range w.rotations {
		value := fmt.Sprintf("rotated-key-%08d-0123456789abcdef", n+1)
		j := job{Do: "load", Protocol: "h1", Name: y.host("h1"), Connections: 16, Requests: 1 << 20, Limit: time.Second}
		if err := i.client.begin(j); err != nil {
			return err
		}
		time.Sleep(j.Limit / 4)
		begun := time.Now()
		if err := w.rotate(value); err != nil {
			return err
		}
		took, returned := time.Since(begun), monotonic()
		result, err := i.client.end()
		if err != nil {
			return err
		}
		got := values{"stale": 0, "fresh": 0, "took": took.Seconds()}
		for saw, times := range result.Seen {
			for _, at := range times {
				switch {
				case at < returned:
				case saw == seen(1, "Bearer "+value):
					got["fresh"]++
				default:
					got["stale"]++
				}
			}
		}
		if got["fresh"] == 0 {
			return fmt.Errorf("no request began after the rotation, which took %v", took)
		}
		r.add(sample{"rotate", y.name, n + 1, got})
	}
	return nil
}

func (w *world) rotate(value string) error {
	_, err := w.CLI(value, "credential", "rotate", "key", "--vault", "bench", "--secret-file", "-", "--wait")
	return err
}

func wayNamed(name string) way {
	for _, y := range allWays() {
		if y.name == name {
			return y
		}
	}
	panic("there is no way " + name)
}
