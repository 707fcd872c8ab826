package material

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/timestamppb"

	"sallyport/control/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	outageError  = connect.NewError(connect.CodeUnavailable, errors.New("connection refused"))
	refusalError = connect.NewError(connect.CodePermissionDenied, errors.New("not pinned"))
)

func TestOneFetchServesAll(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fakeControl, c *Cache) {
		c.Keep(map[string]uint64{"a": 1})
		gate := make(chan struct{})
		f.set(func() { f.gate = gate })
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { get(t, c, "a", 1).Release() })
		}
		synctest.Wait()
		close(gate)
		wg.Wait()
		f.fetched(t, 1)
		time.Sleep(7 * time.Minute)
		get(t, c, "a", 1).Release()
		f.fetched(t, 1)
	})
}

func TestOnlyKeptVersionsAreServed(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fakeControl, c *Cache) {
		refuses(t, c, "a", 1, ErrSuperseded)
		c.Keep(map[string]uint64{"a": 2})
		refuses(t, c, "a", 1, ErrSuperseded)
		refuses(t, c, "a", 3, ErrSuperseded)
		refuses(t, c, "b", 1, ErrSuperseded)
		f.fetched(t, 0)
		get(t, c, "a", 2).Release()
		published := false
		c.Replace(map[string]uint64{"a": 3}, func() { published = true })
		if !published {
			t.Error("Replace did not publish")
		}
		refuses(t, c, "a", 2, ErrSuperseded)
		get(t, c, "a", 3).Release()
		c.Keep(nil)
		refuses(t, c, "a", 3, ErrSuperseded)
	})
}

// A fetch that began before the rotation must not put the old version back.
func TestLateFetchBringsNothingBack(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fakeControl, c *Cache) {
		gate := make(chan struct{})
		f.set(func() { f.gate = gate })
		c.Keep(map[string]uint64{"a": 1})
		late := make(chan error, 1)
		go func() {
			_, err := c.Get(t.Context(), "a", 1, "api.test")
			late <- err
		}()
		synctest.Wait()
		c.Keep(map[string]uint64{"a": 2})
		f.set(func() { f.gate = nil })
		get(t, c, "a", 2).Release()
		close(gate)
		if err := <-late; !errors.Is(err, ErrSuperseded) {
			t.Errorf("the late fetch: %v", err)
		}
		// Not even when the same credential was unpinned and pinned again.
		c.Keep(map[string]uint64{"a": 1})
		before := f.fetches.Load()
		get(t, c, "a", 1).Release()
		f.fetched(t, before+1)
	})
}

func TestMaterialIsWipedAfterItsLastUse(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fakeControl, c *Cache) {
		c.Keep(map[string]uint64{"a": 1, "b": 1})
		one, two := get(t, c, "a", 1), get(t, c, "a", 1)
		secret := one.Material().Token
		c.Keep(map[string]uint64{"b": 1})
		one.Release()
		one.Release() // once too often: must not take two's part
		if !bytes.Equal(two.Material().Token, token("a", 1)) {
			t.Fatal("wiped while in use")
		}
		if one.Material().Token != nil {
			t.Error("a released lease still shows its material")
		}
		two.Release()
		if !bytes.Equal(secret, make([]byte, len(secret))) {
			t.Error("not wiped when released by the last user")
		}

		idle := get(t, c, "b", 1)
		secret = idle.Material().Token
		idle.Release()
		if bytes.Equal(secret, make([]byte, len(secret))) {
			t.Fatal("wiped while the cache may serve it")
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if !bytes.Equal(secret, make([]byte, len(secret))) {
			t.Error("an expired lease that nobody asks for is not wiped")
		}
	})
}

type derived struct{ text []byte }

func (d *derived) Wipe() { clear(d.text) }

func TestDerivedIsSharedAndWipedWithItsLease(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fakeControl, c *Cache) {
		c.Keep(map[string]uint64{"a": 1})
		made := 0
		derive := func(m api.Material) Wiper {
			made++
			return &derived{bytes.Clone(m.Token)}
		}
		one, two := get(t, c, "a", 1), get(t, c, "a", 1)
		d := one.Derive(derive).(*derived)
		if two.Derive(derive) != Wiper(d) || made != 1 {
			t.Errorf("derived %d times from one lease", made)
		}
		c.Keep(nil)
		one.Release()
		if !bytes.Equal(d.text, token("a", 1)) {
			t.Error("wiped while in use")
		}
		two.Release()
		if !bytes.Equal(d.text, make([]byte, len(d.text))) {
			t.Error("not wiped with the lease")
		}
	})
}

func TestRefreshAheadServesTheCurrentLease(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fakeControl, c *Cache) {
		c.Keep(map[string]uint64{"a": 1})
		get(t, c, "a", 1).Release()
		gate := make(chan struct{})
		f.set(func() { f.gate = gate })
		time.Sleep(8 * time.Minute)
		for range 5 { // none of them waits
			l := get(t, c, "a", 1)
			if l.ID() != "lease-1" {
				t.Errorf("lease %s while the refresh is under way", l.ID())
			}
			l.Release()
		}
		close(gate)
		synctest.Wait()
		l := get(t, c, "a", 1)
		defer l.Release()
		if l.ID() != "lease-2" {
			t.Errorf("lease %s after the refresh", l.ID())
		}
		f.fetched(t, 2)
	})
}

func TestExpiriesAreTheControlPlanesTime(t *testing.T) {
	for _, skew := range []time.Duration{-3 * time.Hour, 3 * time.Hour} {
		inBubble(t, func(t *testing.T, f *fakeControl, c *Cache) {
			f.set(func() { f.skew = skew })
			c.Keep(map[string]uint64{"a": 1})
			lease := get(t, c, "a", 1)
			if off := lease.Now().Sub(time.Now().Add(skew)).Abs(); off > 2*time.Second {
				t.Errorf("by the control plane's clock it is %v off", off)
			}
			lease.Release()
			time.Sleep(7 * time.Minute)
			get(t, c, "a", 1).Release()
			f.fetched(t, 1)
			f.set(func() { f.fail = outageError })
			time.Sleep(time.Hour - 7*time.Minute)
			refuses(t, c, "a", 1, ErrUnavailable)
		})
	}
}

func TestLongLeasesAreCut(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fakeControl, c *Cache) {
		forever := func(m *api.FetchResponse) {
			m.HardExpiry = timestamppb.New(time.Now().AddDate(10, 0, 0))
			m.FreshUntil = m.HardExpiry
		}
		f.set(func() { f.edit = forever })
		c.Keep(map[string]uint64{"a": 1})
		get(t, c, "a", 1).Release()
		f.set(func() { f.fail = outageError })
		time.Sleep(longestLease)
		refuses(t, c, "a", 1, ErrUnavailable)
	})
}

func TestCallersDontEndEachOthersFetch(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fakeControl, c *Cache) {
		gate := make(chan struct{})
		f.set(func() { f.gate = gate })
		c.Keep(map[string]uint64{"a": 1})
		ctx, cancel := context.WithCancel(t.Context())
		impatient := make(chan error, 1)
		go func() {
			_, err := c.Get(ctx, "a", 1, "api.test")
			impatient <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-impatient; !errors.Is(err, context.Canceled) {
			t.Errorf("a caller who left: %v", err)
		}
		close(gate)
		get(t, c, "a", 1).Release()
		f.fetched(t, 1)
	})
}

func TestEndWipesAndRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeControl()
		c := NewCache(f, f.key, quiet)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		c.Keep(map[string]uint64{"a": 1, "b": 1})
		l := get(t, c, "a", 1)
		secret := l.Material().Token
		l.Release()
		f.set(func() { f.gate = make(chan struct{}) })
		waiting := make(chan error, 1)
		go func() {
			_, err := c.Get(t.Context(), "b", 1, "api.test")
			waiting <- err
		}()
		synctest.Wait()
		cancel()
		<-done
		if err := <-waiting; !errors.Is(err, ErrClosed) {
			t.Errorf("a caller who waited: %v", err)
		}
		if !bytes.Equal(secret, make([]byte, len(secret))) {
			t.Error("the end leaves material in memory")
		}
		refuses(t, c, "a", 1, ErrClosed)
	})
}

func TestDeadlinePassesInASuspendedMachine(t *testing.T) {
	now := time.Now()
	d := deadline{now.Add(time.Hour)}
	woken := now.Round(0).Add(2 * time.Hour) // by the wall clock alone
	if d.passed(now) || !d.passed(woken) {
		t.Error("a deadline that only the wall clock saw pass")
	}
}

func TestNoMaterialInErrorsAndLogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		f := newFakeControl()
		c := NewCache(f, f.key, slog.New(slog.NewTextHandler(&out, nil)))
		c.Keep(map[string]uint64{"canary": 1})
		l := get(t, c, "canary", 1)
		fmt.Fprintf(&out, "%v %+v %#v", l.Material(), l.Material(), l.Material())
		l.Release()
		f.set(func() { f.fail = outageError })
		time.Sleep(11 * time.Minute)
		get(t, c, "canary", 1).Release()
		if s := out.String(); strings.Contains(s, "canary-1") || !strings.Contains(s, "lease_until") {
			t.Errorf("log:\n%s", s)
		}
		c.close()
	})
}

// Whatever the timing, nobody gets a version older than what was kept before
// the call, and nothing is wiped under its user.
func TestRotationUnderLoad(t *testing.T) {
	f := newFakeControl()
	c := NewCache(f, f.key, quiet)
	defer c.close()
	var kept atomic.Uint64
	rotate := func(v uint64) { c.Replace(map[string]uint64{"a": v}, func() { kept.Store(v) }) }
	rotate(1)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for ctx.Err() == nil {
				v := kept.Load()
				l, err := c.Get(ctx, "a", v, "api.test")
				switch {
				case errors.Is(err, ErrSuperseded):
					if kept.Load() == v {
						t.Errorf("version %d was superseded by nothing", v)
					}
				case err != nil:
					if ctx.Err() == nil {
						t.Error(err)
					}
				default:
					if got := l.Material().Token; !bytes.Equal(got, token("a", v)) {
						t.Errorf("version %d gives other material, or was wiped in use", v)
					}
					l.Release()
				}
			}
		})
	}
	for v := uint64(2); v < 300; v++ {
		rotate(v)
		l, err := c.Get(t.Context(), "a", v, "api.test")
		if err != nil {
			t.Fatal(err)
		}
		l.Release()
	}
	cancel()
	wg.Wait()
}
