package material

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"connectrpc.com/connect"

	"sallyport/control/api"
)

const (
	// defaultGrace is how long bindings serve in an outage when the control plane
	// did not say.
	defaultGrace = time.Hour
	// longestGrace bounds what it may say.
	longestGrace = 24 * time.Hour

	leastPause = 500 * time.Millisecond // between attempts to reach the control plane
	mostPause  = 10 * time.Second

	farewell = time.Second // for the control plane to end the stream of a sidecar that stops
)

// WatchClient is the call that follows the bindings.
type WatchClient interface {
	Watch(context.Context) *connect.BidiStreamForClient[api.WatchRequest, api.WatchResponse]
}

// Watcher follows a sandbox's bindings. Its functions are never called at the
// same time, and none after Run has returned.
type Watcher struct {
	Client WatchClient
	// Apply puts a revision in place. When it fails, what was there stays and
	// nothing is acknowledged.
	Apply func(*api.WatchResponse) error
	// Revoked is called when the control plane says that the sandbox may have
	// nothing any more.
	Revoked func()
	// Expired is called when the control plane has been away for longer than
	// bindings may serve. The next Apply ends that.
	Expired func()
	Log     *slog.Logger
}

// Run follows the bindings, and reconnects, until ctx ends or the sandbox is
// revoked. It returns nil.
func (w *Watcher) Run(ctx context.Context) error {
	var outage outage
	defer outage.end()
	grace, pause := defaultGrace, leastPause
	for {
		began := time.Now()
		err := w.follow(ctx, &outage, &grace)
		switch connect.CodeOf(err) {
		case connect.CodePermissionDenied, connect.CodeNotFound:
			outage.end()
			w.Log.Error("the control plane has revoked this sandbox", "error", err)
			w.Revoked()
			return nil
		}
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > pause { // it was there for longer than it is waited for
			pause = leastPause
		}
		level := slog.LevelDebug
		if outage.begin(grace, w.expire) {
			level = slog.LevelWarn
		}
		w.Log.Log(ctx, level, "lost the control plane; retrying", "bindings_serve_for", grace, "error", err)
		if !sleep(ctx, rand.N(pause)) {
			return nil
		}
		pause = min(2*pause, mostPause)
	}
}

func (w *Watcher) expire() {
	w.Log.Error("the control plane was away for too long; no credential is served until it is back")
	w.Expired()
}

// follow applies what one stream says until it breaks.
func (w *Watcher) follow(ctx context.Context, outage *outage, grace *time.Duration) error {
	over, cancel := context.WithCancel(ctx)
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	stream := w.Client.Watch(life)
	// The control plane is told that there will be no other stream, and ends this one. And
	// net/http notices the end of a context only once the request's body has ended.
	closed := make(chan struct{})
	context.AfterFunc(over, func() {
		defer close(closed)
		stream.CloseRequest()
		time.AfterFunc(farewell, end)
	})
	defer func() { cancel(); <-closed; end(); stream.CloseResponse() }()
	// A failed Send says only that the stream is closed; Receive says why.
	_ = stream.Send(&api.WatchRequest{})
	for newest := uint64(0); ; {
		m, err := stream.Receive()
		if err != nil {
			return fmt.Errorf("follow the bindings: %w", err)
		}
		if m.GetRevision() < newest {
			return fmt.Errorf("follow the bindings: revision %d came after %d", m.GetRevision(), newest)
		}
		newest, *grace = m.GetRevision(), graceOf(m)
		err = outage.over(func() error { return w.Apply(m) })
		if err != nil {
			w.Log.Error("bindings not applied; the last ones stay in place", "revision", newest, "error", err)
			continue
		}
		_ = stream.Send(&api.WatchRequest{AppliedRevision: newest})
	}
}

func graceOf(m *api.WatchResponse) time.Duration {
	if m.GetOutageGrace() == nil {
		return defaultGrace
	}
	return min(max(m.GetOutageGrace().AsDuration(), 0), longestGrace)
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// outage is the time without a control plane. Its lock keeps what happens when
// it lasts too long apart from what happens when it is over.
type outage struct {
	mu    sync.Mutex
	timer *time.Timer // nil: there is no outage
	until deadline    // how long bindings serve
}

// begin calls expired after grace, unless the outage is over by then. It is
// false when there is an outage already, which goes on.
func (o *outage) begin(grace time.Duration, expired func()) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.timer != nil {
		return false
	}
	o.until = deadline{time.Now().Add(grace)}
	var timer *time.Timer
	timer = time.AfterFunc(min(grace, longestSleep), func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		now := time.Now()
		switch {
		case o.timer != timer:
		case o.until.passed(now):
			expired()
		default:
			timer.Reset(min(o.until.at.Sub(now), longestSleep))
		}
	})
	o.timer = timer
	return true
}

// over ends the outage and does what follows.
func (o *outage) over(apply func() error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stop()
	return apply()
}

func (o *outage) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stop()
}

func (o *outage) stop() {
	if o.timer != nil {
		o.timer.Stop()
		o.timer = nil
	}
}
