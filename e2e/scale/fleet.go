package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"sallyport/control/api"
	"sallyport/e2e/stage"
	"sallyport/sidecar/identity"
	"sallyport/sidecar/material"
)

// joining bounds the sandboxes that are made or enrolled at once.
const joining = 32

// fleet is the sidecars.
type fleet struct {
	options
	stage *stage.Stage
	out   io.Writer

	members  []*member
	watchers sync.WaitGroup
	end      context.CancelFunc
	version  atomic.Uint64  // that every sidecar should have
	missing  atomic.Int64   // sidecars that have not been told of version
	complete chan time.Time // when the last was
	opened   atomic.Int64   // snapshots since the last restart
}

// member is one sidecar.
type member struct {
	identity   *identity.Identity
	version    atomic.Uint64 // of its only credential
	credential atomic.Value  // id
	back       atomic.Bool   // it has had a snapshot since the last restart
}

func (f *fleet) close() {
	if f.end != nil {
		f.end()
	}
	f.watchers.Wait()
	for _, m := range f.members {
		if m != nil && m.identity != nil {
			m.identity.Close()
		}
	}
}

func agentName(n int) string { return fmt.Sprintf("agent-%d", n) }

// prepare makes a vault with one credential, and the agents it is pinned to.
func (f *fleet) prepare() error {
	if _, err := f.stage.CLI("", "vault", "create", "scale"); err != nil {
		return err
	}
	_, err := f.stage.CLI("scale-key-0123456789abcdefghij", "credential", "add", "--vault", "scale", "--name", "key",
		"--host", host, "--inject", "bearer", "--secret-file", "-")
	if err != nil {
		return err
	}
	for n := range f.agents {
		if _, err := f.stage.CLI("", "agent", "create", agentName(n)); err != nil {
			return err
		}
		if _, err := f.stage.CLI("", "agent", "pin", agentName(n), "scale"); err != nil {
			return err
		}
	}
	return nil
}

// join makes the sandboxes and enrols their sidecars.
func (f *fleet) join(ctx context.Context) error {
	f.members = make([]*member, f.sessions)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(joining)
	for n := range f.sessions {
		group.Go(func() error {
			var made struct {
				JoinToken string `json:"join_token"`
			}
			path := "/v1/teams/default/agents/" + agentName(n%f.agents) + "/sandboxes"
			if err := f.stage.Admin(http.MethodPost, path, nil, &made); err != nil {
				return err
			}
			id, err := identity.Enroll(ctx, f.stage.API, []byte(made.JoinToken), "scale")
			if err != nil {
				return fmt.Errorf("enrol sidecar %d: %w", n, err)
			}
			id.Log = slog.New(slog.DiscardHandler)
			f.members[n] = &member{identity: id}
			return nil
		})
	}
	return group.Wait()
}

// follow opens every sidecar's stream.
func (f *fleet) follow(ctx context.Context) {
	ctx, f.end = context.WithCancel(ctx)
	for _, m := range f.members {
		w := &material.Watcher{
			Client:  m.identity.Client(),
			Apply:   func(message *api.WatchResponse) error { return f.applied(m, message) },
			Revoked: func() {},
			Expired: func() {},
			Log:     slog.New(slog.DiscardHandler),
		}
		f.watchers.Go(func() { _ = w.Run(ctx) }) // always nil
	}
}

// applied notes what a sidecar was told.
func (f *fleet) applied(m *member, message *api.WatchResponse) error {
	if len(message.GetBindings()) != 1 {
		return fmt.Errorf("%d bindings", len(message.GetBindings()))
	}
	if !m.back.Swap(true) {
		f.opened.Add(1)
	}
	binding := message.GetBindings()[0]
	m.credential.Store(binding.GetCredentialId())
	if before := m.version.Swap(binding.GetVersion()); before < f.version.Load() && binding.GetVersion() >= f.version.Load() {
		if f.missing.Add(-1) == 0 {
			f.complete <- time.Now()
		}
	}
	return nil
}

// expect has complete tell when every sidecar has a version.
func (f *fleet) expect(version uint64) {
	f.complete = make(chan time.Time, 1)
	f.missing.Store(int64(f.sessions))
	f.version.Store(version)
}

// awaitAll waits until every sidecar has had a snapshot.
func (f *fleet) awaitAll(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for f.opened.Load() < int64(f.sessions) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d sidecars have their bindings: %w", f.opened.Load(), f.sessions, ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}
