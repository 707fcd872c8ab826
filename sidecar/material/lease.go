package material

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"sallyport/control/api"
)

// longestLease bounds hard_expiry, whatever the control plane says.
const longestLease = 24 * time.Hour

// Lease is material in use by one request.
type Lease struct {
	held     *held
	released atomic.Bool
}

// Material is what is injected. It stays readable until Release.
func (l *Lease) Material() api.Material {
	if l.released.Load() {
		return api.Material{}
	}
	return l.held.material
}

// Wiper is something that bears material and must not outlive it.
type Wiper interface{ Wipe() }

// Derive gives what derive makes of the material. It is made once a lease,
// shared by all who use it, and wiped with the material.
func (l *Lease) Derive(derive func(api.Material) Wiper) Wiper {
	l.held.deriving.Do(func() { l.held.derived = derive(l.held.material) })
	return l.held.derived
}

// Now is the time by the control plane's clock, as far as it is known: that of a
// sandbox may be wrong, and signatures have the time in them.
func (l *Lease) Now() time.Time { return time.Now().Add(l.held.skew) }

// Ended reports whether the material may not be used any more.
func (l *Lease) Ended() bool { return l.held.hard.passed(time.Now()) }

// Credential is whose material it is, and of which version.
func (l *Lease) Credential() (id string, version uint64) { return l.held.credential, l.held.version }

// ID is the lease's id, for audit.
func (l *Lease) ID() string { return l.held.id }

// Release ends the use. A second call does nothing.
func (l *Lease) Release() {
	if !l.released.Swap(true) {
		l.held.release()
	}
}

// held is a lease as the cache holds it, shared by those who use it.
type held struct {
	id         string
	credential string // id
	version    uint64
	material   api.Material
	refresh    deadline // from here on it is fetched again while it still serves
	fresh      deadline
	hard       deadline
	skew       time.Duration // what the control plane's clock is ahead
	users      atomic.Int64  // the cache is one of them

	deriving sync.Once
	derived  Wiper
}

// lease adds a user. The caller must know that there is one already.
func (h *held) lease() *Lease {
	h.users.Add(1)
	return &Lease{held: h}
}

func (h *held) release() {
	if h.users.Add(-1) == 0 {
		h.material.Wipe()
		if h.derived != nil {
			h.derived.Wipe()
		}
	}
}

// deadline passes by the monotonic clock or the wall clock, whichever is first:
// one stands still in a suspended machine, the other can be set back.
type deadline struct{ at time.Time }

func (d deadline) passed(now time.Time) bool {
	return !now.Before(d.at) || !now.Round(0).Before(d.at.Round(0))
}

// lease fetches and opens material.
func (c *Cache) lease(ctx context.Context, id string, version uint64, host string) (*held, error) {
	response, err := c.client.Fetch(ctx, connect.NewRequest(&api.FetchRequest{CredentialId: id, Version: version, Host: host, Limits: true}))
	if err != nil {
		return nil, fetchError(err)
	}
	m := response.Msg
	if m.GetVersion() != version {
		return nil, fmt.Errorf("%w: asked for version %d, got %d", ErrUnavailable, version, m.GetVersion())
	}
	now := time.Now()
	there := serverTime(response.Header(), now)
	hard := min(m.GetHardExpiry().AsTime().Sub(there), longestLease)
	if hard < time.Second {
		return nil, fmt.Errorf("%w: the lease had expired when it came", ErrUnavailable)
	}
	// A lease that is never fresh would be fetched at every request.
	fresh := min(max(m.GetFreshUntil().AsTime().Sub(there), time.Second), hard)
	material, err := api.OpenMaterial(c.key, id, version, m.GetSealed())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	h := &held{
		id: m.GetLeaseId(), credential: id, version: version,
		material: material,
		refresh:  deadline{now.Add(fresh * 3 / 4)},
		fresh:    deadline{now.Add(fresh)},
		hard:     deadline{now.Add(hard)},
		skew:     skew(there.Sub(now)),
	}
	h.users.Store(1)
	return h, nil
}

// serverTime is the time by the control plane's clock, which the expiries were
// written by. The next second, since Date counts whole ones.
func serverTime(header http.Header, now time.Time) time.Time {
	date, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		return now
	}
	return date.Add(time.Second)
}

// sameTime is how far clocks may be apart that are taken to be the same: serverTime
// knows whole seconds, and not how long the answer took.
const sameTime = 10 * time.Second

func skew(ahead time.Duration) time.Duration {
	if ahead.Abs() < sameTime {
		return 0
	}
	return ahead
}

// awayError is a fetch that failed because the control plane is away or
// overwhelmed, or what it depends on is, which says nothing about the credential.
type awayError struct {
	what  error // ErrUnavailable or ErrExchange
	cause error
}

func (e awayError) Unwrap() []error { return []error{e.what, e.cause} }
func (e awayError) Error() string   { return e.what.Error() + ": " + e.cause.Error() }

func isAway(err error) bool {
	_, away := err.(awayError)
	return away
}

// Reason is what the control plane says of an ErrExchange, for whoever asked.
func Reason(err error) string {
	var said *connect.Error
	if !errors.As(err, &said) {
		return "it does not say why"
	}
	return said.Message()
}

// Bound is what the control plane says of an ErrUnavailable whose cause is that it was
// asked too much, or "".
func Bound(err error) string {
	if connect.CodeOf(err) != connect.CodeResourceExhausted {
		return ""
	}
	return Reason(err)
}

// fetchError sorts errors into refusals and outages. A certificate that expired
// in an outage is not yet renewed when the control plane comes back: that is
// part of the outage.
func fetchError(err error) error {
	switch connect.CodeOf(err) {
	case connect.CodeAborted:
		return awayError{ErrExchange, err}
	case connect.CodeUnavailable, connect.CodeDeadlineExceeded, connect.CodeCanceled, connect.CodeInternal,
		connect.CodeUnknown, connect.CodeResourceExhausted, connect.CodeUnauthenticated:
		return awayError{ErrUnavailable, err}
	case connect.CodeNotFound:
		return fmt.Errorf("%w: %w", ErrUnbound, err)
	}
	return fmt.Errorf("%w: %w", ErrRefused, err)
}
