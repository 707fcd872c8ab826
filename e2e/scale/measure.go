package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sync/errgroup"

	"sallyport/control"
	"sallyport/control/api"
)

// host is the one that the credential is for. Nobody asks it.
const host = "api.scale.test"

// patience bounds every wait for the whole fleet.
const patience = 5 * time.Minute

func (f *fleet) say(format string, args ...any) { fmt.Fprintf(f.out, format+"\n", args...) }

func (f *fleet) measure(ctx context.Context) error {
	f.say("%d sidecars of %d agents; control plane and Postgres on core %d", f.sessions, f.agents, f.core)
	if err := f.prepare(); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{f.enrol, f.connect, f.rotate, f.fetch, f.restart} {
		step := step
		bounded, cancel := context.WithTimeout(ctx, patience)
		err := step(bounded)
		cancel()
		if err != nil {
			return err
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
	f.say("made and enrolled: %.1f s, %.0f a second", took.Seconds(), float64(f.sessions)/took.Seconds())
	return nil
}

func (f *fleet) connect(ctx context.Context) error {
	before, err := f.resident()
	if err != nil {
		return err
	}
	begun := time.Now()
	f.follow(context.WithoutCancel(ctx))
	if err := f.awaitAll(ctx); err != nil {
		return err
	}
	took := time.Since(begun)
	after, err := f.resident()
	if err != nil {
		return err
	}
	f.say("streams opened: %.1f s, %.0f a second", took.Seconds(), float64(f.sessions)/took.Seconds())
	f.say("memory of the control plane: %.1f MiB before, %.1f MiB with them, %.1f KiB a sidecar",
		mebibytes(before), mebibytes(after), float64(after-before)/1024/float64(f.sessions))
	return nil
}

// rotate rotates the credential and waits until every sidecar was told, and, as
// the API has it, until every acknowledgement is there.
func (f *fleet) rotate(ctx context.Context) error {
	var told, acknowledged []time.Duration
	for n := range f.rotations {
		f.expect(uint64(n + 2))
		begun := time.Now()
		var rotation control.Rotation
		err := f.stage.Admin("POST", "/v1/teams/default/vaults/scale/credentials/key/rotate?wait=60s",
			map[string]string{"secret": fmt.Sprintf("scale-key-%d-0123456789abcdefghij", n)}, &rotation)
		if err != nil {
			return err
		}
		select {
		case last := <-f.complete:
			told = append(told, last.Sub(begun))
		case <-ctx.Done():
			return fmt.Errorf("%d sidecars were not told of version %d: %w", f.missing.Load(), n+2, ctx.Err())
		}
		if rotation.Acknowledged != f.sessions {
			return fmt.Errorf("rotation %d: %d of %d acknowledged", n, rotation.Acknowledged, rotation.Connected)
		}
		acknowledged = append(acknowledged, time.Duration(rotation.Milliseconds)*time.Millisecond)
	}
	f.say("rotation, from the call to the last sidecar told: %s", spread(told))
	f.say("rotation, from its commit to the last acknowledgement: %s", spread(acknowledged))
	return nil
}

// fetch leases material, each time for another sidecar.
func (f *fleet) fetch(ctx context.Context) error {
	var next, refused atomic.Int64
	took := make([][]time.Duration, f.fetchers)
	group, ctx := errgroup.WithContext(ctx)
	begun := time.Now()
	for n := range f.fetchers {
		group.Go(func() error {
			for time.Since(begun) < f.fetching {
				m := f.members[int(next.Add(1))%f.sessions]
				at := time.Now()
				_, err := m.identity.Client().Fetch(ctx, connect.NewRequest(&api.FetchRequest{
					CredentialId: m.credential.Load().(string), Version: m.version.Load(), Host: host,
				}))
				switch {
				case connect.CodeOf(err) == connect.CodeResourceExhausted:
					refused.Add(1)
				case err != nil:
					return fmt.Errorf("fetch: %w", err)
				default:
					took[n] = append(took[n], time.Since(at))
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	all := slices.Concat(took...)
	if len(all) == 0 {
		return errors.New("no fetch succeeded")
	}
	slices.Sort(all)
	f.say("fetches, %d at once: %.0f a second, p50 %.1f ms, p99 %.1f ms, %d refused by the limit",
		f.fetchers, float64(len(all))/time.Since(begun).Seconds(), milliseconds(all[len(all)/2]), milliseconds(all[len(all)*99/100]), refused.Load())
	return nil
}

// restart ends the control plane and starts it again.
func (f *fleet) restart(ctx context.Context) error {
	f.stage.StopControl()
	for _, m := range f.members {
		m.back.Store(false)
	}
	f.opened.Store(0)
	if err := f.stage.StartControl(f.core); err != nil {
		return err
	}
	begun := time.Now()
	var half time.Duration
	for f.opened.Load() < int64(f.sessions)/2 && ctx.Err() == nil {
		time.Sleep(5 * time.Millisecond)
	}
	half = time.Since(begun)
	if err := f.awaitAll(ctx); err != nil {
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

func mebibytes(n int64) float64 { return float64(n) / (1 << 20) }

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// spread gives the median with the least and the greatest.
func spread(all []time.Duration) string {
	slices.Sort(all)
	return fmt.Sprintf("%.0f ms (%.0f to %.0f)", milliseconds(all[len(all)/2]), milliseconds(all[0]), milliseconds(all[len(all)-1]))
}
