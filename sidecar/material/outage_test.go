package material

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"sallyport/control/api"
)

func TestOutage(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fakeControl, c *Cache) {
		c.Keep(map[string]uint64{"a": 1, "b": 1})
		get(t, c, "a", 1).Release()
		f.set(func() { f.fail = outageError })
		for begin := time.Now(); time.Since(begin) < 58*time.Minute; time.Sleep(time.Second) {
			get(t, c, "a", 1).Release()
		}
		if n := f.fetches.Load(); n > 58*60 {
			t.Errorf("%d fetches in an outage of 58 minutes", n)
		}
		refuses(t, c, "b", 1, ErrUnavailable) // never had
		time.Sleep(2 * time.Minute)
		refuses(t, c, "a", 1, ErrUnavailable) // beyond hard expiry
		f.set(func() { f.fail = nil })
		time.Sleep(10 * time.Second)
		get(t, c, "a", 1).Release()
		get(t, c, "b", 1).Release()
	})
}

// A control plane that swallows requests costs one of ours a bounded wait, no more.
func TestHangingControlPlane(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fakeControl, c *Cache) {
		c.Keep(map[string]uint64{"a": 1})
		get(t, c, "a", 1).Release()
		time.Sleep(11 * time.Minute)
		f.set(func() { f.gate = make(chan struct{}) })
		begin := time.Now()
		for range 20 {
			get(t, c, "a", 1).Release()
		}
		if waited := time.Since(begin); waited > fetchTimeout {
			t.Errorf("20 requests waited for %v", waited)
		}
	})
}

func TestRefusal(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fakeControl, c *Cache) {
		c.Keep(map[string]uint64{"a": 1})
		l := get(t, c, "a", 1)
		secret := l.Material().Token
		l.Release()
		f.set(func() { f.fail = refusalError })
		time.Sleep(11 * time.Minute)
		refuses(t, c, "a", 1, ErrRefused)
		if !bytes.Equal(secret, make([]byte, len(secret))) {
			t.Error("a refused lease is not wiped")
		}
		before := f.fetches.Load()
		for range 100 {
			refuses(t, c, "a", 1, ErrRefused)
		}
		f.fetched(t, before)
		f.set(func() { f.fail = outageError }) // an outage makes no refused lease valid again
		time.Sleep(5 * time.Second)
		refuses(t, c, "a", 1, ErrUnavailable)
		f.set(func() { f.fail = nil })
		time.Sleep(10 * time.Second)
		get(t, c, "a", 1).Release()
	})
}

// A version that the control plane does not know is told apart: it may have been rotated.
func TestUnboundVersion(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fakeControl, c *Cache) {
		c.Keep(map[string]uint64{"a": 1})
		f.set(func() { f.fail = connect.NewError(connect.CodeNotFound, errors.New("no such version")) })
		refuses(t, c, "a", 1, ErrUnbound)
		refuses(t, c, "a", 1, ErrRefused)
		f.set(func() { f.fail = refusalError })
		time.Sleep(2 * time.Second)
		if _, err := c.Get(t.Context(), "a", 1, "api.test"); errors.Is(err, ErrUnbound) {
			t.Errorf("another refusal is %v", err)
		}
	})
}

func TestMalformedAnswers(t *testing.T) {
	stranger := must(api.GenerateSealKey()).PublicKey().Bytes()
	for name, edit := range map[string]func(*api.FetchResponse){
		"nothing":               func(m *api.FetchResponse) { *m = api.FetchResponse{} },
		"another version":       func(m *api.FetchResponse) { m.Version = 2 },
		"sealed to another key": func(m *api.FetchResponse) { m.Sealed = must(api.SealMaterial(stranger, "a", 1, api.Material{})) },
		"another version's material": func(m *api.FetchResponse) {
			m.Sealed = slices.Concat(m.Sealed[:len(m.Sealed)-1], []byte{m.Sealed[len(m.Sealed)-1] ^ 1})
		},
		"cut short":          func(m *api.FetchResponse) { m.Sealed = m.Sealed[:10] },
		"expired":            func(m *api.FetchResponse) { m.HardExpiry = timestamppb.New(time.Now().Add(-time.Second)) },
		"without an expiry":  func(m *api.FetchResponse) { m.HardExpiry = nil },
		"expired long since": func(m *api.FetchResponse) { m.HardExpiry, m.FreshUntil = &timestamppb.Timestamp{}, nil },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, f *fakeControl, c *Cache) {
				c.Keep(map[string]uint64{"a": 1})
				f.set(func() { f.edit = edit })
				refuses(t, c, "a", 1, ErrUnavailable)
				f.set(func() { f.edit = nil })
				time.Sleep(time.Second)
				get(t, c, "a", 1).Release()
				f.set(func() { f.edit = edit })
				time.Sleep(11 * time.Minute)
				refuses(t, c, "a", 1, ErrUnavailable) // the control plane is there, so nothing stale
			})
		})
	}
}

// What was refused may be no more with other bindings, though it is the same version: it
// was unpinned and pinned again.
func TestRefusalOfBefore(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fakeControl, c *Cache) {
		c.Keep(map[string]uint64{"a": 1})
		f.set(func() { f.fail = refusalError })
		refuses(t, c, "a", 1, ErrRefused)
		f.set(func() { f.fail = nil })
		refuses(t, c, "a", 1, ErrRefused)
		c.Keep(map[string]uint64{"a": 1})
		get(t, c, "a", 1).Release()
	})
}
