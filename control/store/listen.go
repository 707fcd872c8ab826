package store

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	listenPing       = 30 * time.Second // to notice a connection that died silently
	listenMinBackoff = 100 * time.Millisecond
	listenMaxBackoff = 5 * time.Second
)

// Listen calls changed with the id of each team whose revision moved, with that
// of a sandbox beside it if only its stream was opened elsewhere, and with neither
// whenever it has connected, or connected again: anything may have changed. In the
// same way it calls decided with the id of a sandbox about whose request a person
// has decided. It is what Await hears by, and tells other replicas. It returns nil
// when ctx ends.
func (s *Store) Listen(ctx context.Context, changed func(teamID, sandboxID string), decided func(sandboxID string)) error {
	var announcing sync.WaitGroup
	announcing.Go(func() { s.announce(ctx) })
	defer announcing.Wait()
	backoff := listenMinBackoff
	for {
		err := s.listenOnce(ctx, func(from, payload string) {
			backoff = listenMinBackoff
			switch from {
			case recordings:
				s.recorder.wake(payload)
				return
			case decisions:
				decided(payload)
				return
			case "":
				s.recorder.wake("")
				decided("")
			}
			teamID, sandboxID, _ := strings.Cut(payload, "/")
			changed(teamID, sandboxID)
		})
		if ctx.Err() != nil {
			return nil
		}
		s.log.Warn("not listening to the database's changes", "error", err, "retry_in", backoff)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(backoff/2 + rand.N(backoff)):
		}
		backoff = min(2*backoff, listenMaxBackoff)
	}
}

// listenOnce listens on a connection of its own until that fails or ctx ends.
func (s *Store) listenOnce(ctx context.Context, notify func(channel, payload string)) error {
	conn, err := pgx.ConnectConfig(ctx, s.pool.Config().ConnConfig)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "listen "+channel+"; listen "+decisions+"; listen "+recordings); err != nil {
		return err
	}
	notify("", "")
	for {
		wait, cancel := context.WithTimeout(ctx, listenPing)
		n, err := conn.WaitForNotification(wait)
		cancel()
		switch {
		case err == nil:
			notify(n.Channel, n.Payload)
		case ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded):
			return err
		default:
			ping, cancel := context.WithTimeout(ctx, listenPing)
			err := conn.Ping(ping)
			cancel()
			if err != nil {
				return err
			}
		}
	}
}
