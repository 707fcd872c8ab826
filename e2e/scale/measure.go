package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"sallyport/control"
)

// host is the one that the credential is for. Nobody asks it.
const host = "api.scale.test"

// patience bounds every wait for the whole fleet.
const patience = 5 * time.Minute

func (f *fleet) say(format string, args ...any) { fmt.Fprintf(f.out, format+"\n", args...) }

func (f *fleet) measure(ctx context.Context) error {
	f.say("%d sidecars of %d agents; control plane and Postgres on core %d, sidecars on core %d", f.sessions, f.agents, f.core, f.holding)
	if err := f.prepare(); err != nil {
		return err
	}
	if err := f.enrol(ctx); err != nil {
		return err
	}
	bins := []string{f.stage.Bin}
	if f.against != "" {
		bins = append([]string{f.against}, bins...)
	}
	for n := range f.rounds * len(bins) {
		f.stage.Bin = bins[n%len(bins)]
		f.say("\nround %d, %s", n/len(bins)+1, f.stage.Bin)
		for _, step := range []func(context.Context) error{f.begin, f.connect, f.rotate, f.fetch, f.restart} {
			bounded, cancel := context.WithTimeout(ctx, patience)
			err := step(bounded)
			cancel()
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *fleet) enrol(ctx context.Context) error {
	begun := time.Now()
	if err := f.join(ctx); err != nil {
		return err
	}
	took := time.Since(begun)
	f.say("made and enrolled, by all cores: %.1f s, %.0f a second", took.Seconds(), float64(f.sessions)/took.Seconds())
	return nil
}

// begin starts the control plane on its core, with nobody connected.
func (f *fleet) begin(context.Context) error {
	if err := f.tell("Unfollow"); err != nil {
		return err
	}
	f.stage.StopControl()
	return f.stage.StartControl(f.core)
}

// connect opens all streams at once.
func (f *fleet) connect(ctx context.Context) error {
	before, err := f.resident()
	if err != nil {
		return err
	}
	begun, used := time.Now(), f.cpu()
	if err := f.tell("Follow"); err != nil {
		return err
	}
	if err := f.await(ctx, f.sessions); err != nil {
		return err
	}
	took, used := time.Since(begun), f.cpu()-used
	after, err := f.resident()
	if err != nil {
		return err
	}
	f.say("streams opened: %.1f s, %.0f a second, %s of CPU each", took.Seconds(), float64(f.sessions)/took.Seconds(), f.each(used, f.sessions))
	f.say("memory of the control plane: %.1f MiB before, %.1f MiB with them, %.1f KiB a sidecar",
		mebibytes(before), mebibytes(after), float64(after-before)/1024/float64(f.sessions))
	return nil
}

// await waits until n sidecars have had a snapshot.
func (f *fleet) await(ctx context.Context, n int) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		opened, err := f.opened()
		if err != nil || opened >= n {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d sidecars have their bindings: %w", opened, n, ctx.Err())
		case <-tick.C:
		}
	}
}

// rotate rotates the credential and waits until every sidecar was told, and, as
// the API has it, until every acknowledgement is there.
func (f *fleet) rotate(ctx context.Context) error {
	var told, acknowledged []time.Duration
	used := f.cpu()
	for range f.rotations {
		last, rotation, err := f.rotateOnce(ctx)
		if err != nil {
			return err
		}
		if rotation.Acknowledged != f.sessions {
			return fmt.Errorf("version %d: %d of %d acknowledged", f.version, rotation.Acknowledged, rotation.Connected)
		}
		told = append(told, last)
		acknowledged = append(acknowledged, time.Duration(rotation.Milliseconds)*time.Millisecond)
	}
	f.say("rotation, from the call to the last sidecar told: %s", spread(told))
	f.say("rotation, from its commit to the last acknowledgement: %s; %s of CPU for each sidecar",
		spread(acknowledged), f.each(f.cpu()-used, f.rotations*f.sessions))
	return nil
}

// rotateOnce gives how long it took until the last sidecar was told.
func (f *fleet) rotateOnce(ctx context.Context) (told time.Duration, rotation control.Rotation, err error) {
	f.version++
	for _, h := range f.held {
		if err := h.Call("Holder.Expect", f.version, nil); err != nil {
			return 0, rotation, err
		}
	}
	begun := time.Now()
	err = f.stage.Admin("POST", "/v1/teams/default/vaults/scale/credentials/key/rotate?wait=60s",
		map[string]string{"secret": fmt.Sprintf("scale-key-%d-0123456789abcdefghij", f.version)}, &rotation)
	for _, h := range f.held {
		var at time.Time
		if err == nil {
			err = h.Call("Holder.Told", None{}, &at)
		}
		told = max(told, at.Sub(begun))
	}
	return told, rotation, err
}

// fetch leases material, each time for another sidecar.
func (f *fleet) fetch(context.Context) error {
	results := make([]Fetched, len(f.held))
	var group errgroup.Group
	begun, used := time.Now(), f.cpu()
	for n, h := range f.held {
		group.Go(func() error {
			return h.Call("Holder.Fetch", Fetching{Callers: max(1, f.fetchers/len(f.held)), For: f.fetching}, &results[n])
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	var all []time.Duration
	refused := 0
	for _, r := range results {
		all, refused = append(all, r.Took...), refused+r.Refused
	}
	if len(all) == 0 {
		return errors.New("no fetch succeeded")
	}
	slices.Sort(all)
	f.say("fetches, %d at once: %.0f a second, p50 %.1f ms, p99 %.1f ms, %d refused by the limit, %s of CPU each",
		f.fetchers, float64(len(all))/time.Since(begun).Seconds(), milliseconds(all[len(all)/2]), milliseconds(all[len(all)*99/100]), refused,
		f.each(f.cpu()-used, len(all)))
	return nil
}

// restart ends the control plane and starts it again.
func (f *fleet) restart(ctx context.Context) error {
	f.stage.StopControl()
	if err := f.tell("Forget"); err != nil {
		return err
	}
	if err := f.stage.StartControl(f.core); err != nil {
		return err
	}
	begun := time.Now()
	if err := f.await(ctx, f.sessions/2); err != nil {
		return err
	}
	half := time.Since(begun)
	if err := f.await(ctx, f.sessions); err != nil {
		return err
	}
	f.say("back after a restart, from its readiness: half after %.1f s, all after %.1f s", half.Seconds(), time.Since(begun).Seconds())
	return nil
}

// resident is the proportional set size of the control plane without its Postgres, in bytes.
func (f *fleet) resident() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", f.stage.ControlPid()))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "Pss:" {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			return n * 1024, err
		}
	}
	return 0, errors.New("no Pss in smaps_rollup")
}

// cpu is what the control plane without its Postgres has used; 0 if that can't be read.
func (f *fleet) cpu() time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", f.stage.ControlPid()))
	if err != nil {
		return 0
	}
	// Past the name, which may have blanks in it; proc(5), fields 14 and 15, in ticks of 10 ms.
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond
}

// each is a share of used, for n.
func (f *fleet) each(used time.Duration, n int) string {
	return fmt.Sprintf("%d µs", used.Microseconds()/int64(n))
}

func mebibytes(n int64) float64 { return float64(n) / (1 << 20) }

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// spread gives the median with the least and the greatest.
func spread(all []time.Duration) string {
	slices.Sort(all)
	return fmt.Sprintf("%.0f ms (%.0f to %.0f)", milliseconds(all[len(all)/2]), milliseconds(all[0]), milliseconds(all[len(all)-1]))
}
