package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/rpc"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sync/errgroup"

	"sallyport/control/api"
	"sallyport/sidecar/identity"
	"sallyport/sidecar/material"
)

// holdCommand is the argument that makes this program a holder.
const holdCommand = "hold"

// Holder holds some of the sidecars, in a process of its own: one has too few descriptors
// and too little time for all. It is called over its standard input and output.
type Holder struct {
	ctx      context.Context
	members  []*member
	watchers sync.WaitGroup
	end      context.CancelFunc

	opened   atomic.Int64   // members that have had a snapshot since Follow or Forget
	version  atomic.Uint64  // that every member should have
	missing  atomic.Int64   // members that have not been told of version
	complete chan time.Time // when the last was
}

// member is one sidecar.
type member struct {
	identity   *identity.Identity
	version    atomic.Uint64 // of its only credential
	credential atomic.Value  // id
	back       atomic.Bool   // it has been counted in opened
}

// None is for calls that take or give nothing.
type None struct{}

// pipe is standard input and output as one.
type pipe struct {
	io.Reader
	io.WriteCloser
}

// hold serves a Holder until its standard input ends.
func hold(ctx context.Context) error {
	h := &Holder{ctx: ctx}
	defer h.close()
	server := rpc.NewServer()
	if err := server.Register(h); err != nil {
		return err
	}
	server.ServeConn(pipe{os.Stdin, os.Stdout})
	return nil
}

func (h *Holder) close() {
	h.unfollow()
	for _, m := range h.members {
		m.identity.Close()
	}
}

func (h *Holder) unfollow() {
	if h.end != nil {
		h.end()
	}
	h.watchers.Wait()
}

// Enrolment says which sidecars to enrol, and where.
type Enrolment struct {
	API    string
	Tokens []string
}

// Enrol adds sidecars.
func (h *Holder) Enrol(e Enrolment, _ *None) error {
	for _, token := range e.Tokens {
		id, err := identity.Enroll(h.ctx, e.API, []byte(token), "scale")
		if err != nil {
			return err
		}
		id.Log = slog.New(slog.DiscardHandler)
		h.members = append(h.members, &member{identity: id})
	}
	return nil
}

// Follow opens every sidecar's stream, after it has ended those that are open.
func (h *Holder) Follow(None, *None) error {
	h.unfollow()
	if err := h.Forget(None{}, nil); err != nil {
		return err
	}
	var ctx context.Context
	ctx, h.end = context.WithCancel(h.ctx)
	for _, m := range h.members {
		w := &material.Watcher{
			Client:  m.identity.Client(),
			Apply:   func(message *api.WatchResponse) error { return h.applied(m, message) },
			Revoked: func() {},
			Expired: func() {},
			Log:     slog.New(slog.DiscardHandler),
		}
		h.watchers.Go(func() { _ = w.Run(ctx) }) // always nil
	}
	return nil
}

// Unfollow ends every stream and its connection.
func (h *Holder) Unfollow(None, *None) error {
	h.unfollow()
	for _, m := range h.members {
		m.identity.Close()
	}
	return nil
}

// applied notes what a sidecar was told.
func (h *Holder) applied(m *member, message *api.WatchResponse) error {
	if len(message.GetBindings()) != 1 {
		return fmt.Errorf("%d bindings", len(message.GetBindings()))
	}
	binding := message.GetBindings()[0]
	m.credential.Store(binding.GetCredentialId())
	if before := m.version.Swap(binding.GetVersion()); before < h.version.Load() && binding.GetVersion() >= h.version.Load() {
		if h.missing.Add(-1) == 0 {
			h.complete <- time.Now()
		}
	}
	if !m.back.Swap(true) {
		h.opened.Add(1)
	}
	return nil
}

// Forget forgets who has had a snapshot.
func (h *Holder) Forget(None, *None) error {
	for _, m := range h.members {
		m.back.Store(false)
	}
	h.opened.Store(0)
	return nil
}

// Opened is how many have had one since.
func (h *Holder) Opened(_ None, n *int) error {
	*n = int(h.opened.Load())
	return nil
}

// Expect has Told tell when every sidecar has a version.
func (h *Holder) Expect(version uint64, _ *None) error {
	h.complete = make(chan time.Time, 1)
	h.missing.Store(int64(len(h.members)))
	h.version.Store(version)
	return nil
}

// Told waits until every sidecar has it, and says since when.
func (h *Holder) Told(_ None, at *time.Time) error {
	select {
	case *at = <-h.complete:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("%d sidecars were not told of version %d", h.missing.Load(), h.version.Load())
	case <-h.ctx.Done():
		return h.ctx.Err()
	}
}

// Fetching says how many calls at once, and for how long.
type Fetching struct {
	Callers int
	For     time.Duration
}

// Fetched is how long calls took, and how many were refused by the limit.
type Fetched struct {
	Took    []time.Duration
	Refused int
}

// Fetch leases material, each time for another sidecar.
func (h *Holder) Fetch(f Fetching, result *Fetched) error {
	var next, refused atomic.Int64
	took := make([][]time.Duration, f.Callers)
	group, ctx := errgroup.WithContext(h.ctx)
	begun := time.Now()
	for n := range f.Callers {
		group.Go(func() error {
			for time.Since(begun) < f.For {
				m := h.members[int(next.Add(1))%len(h.members)]
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
	err := group.Wait()
	for _, some := range took {
		result.Took = append(result.Took, some...)
	}
	result.Refused = int(refused.Load())
	return err
}
