package sidecar

import (
	"context"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"time"
)

const (
	restTick  = 400 * time.Millisecond
	restQuiet = 64 << 10 // allocated in a tick, at most, by a worker that has nothing to do
	restWorth = 4 << 20  // allocated since memory was given back, at least
)

// rest gives memory back to the machine whenever work has paused. A collector that
// waits for the next half of a heap to fill would keep it, and old heads in it,
// for as long as an agent thinks.
func rest(ctx context.Context) error {
	allocated := []runtimemetrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	ticker := time.NewTicker(restTick)
	defer ticker.Stop()
	for p := new(pause); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		runtimemetrics.Read(allocated)
		if p.begins(allocated[0].Value.Uint64()) {
			debug.FreeOSMemory()
		}
	}
}

// pause follows how much a worker has allocated.
type pause struct{ before, freed uint64 }

// begins reports, once for a time of work, that it is over.
func (p *pause) begins(allocated uint64) bool {
	quiet := allocated-p.before <= restQuiet
	p.before = allocated
	if !quiet || allocated-p.freed < restWorth {
		return false
	}
	p.freed = allocated
	return true
}
