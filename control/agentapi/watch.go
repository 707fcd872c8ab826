package agentapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"connectrpc.com/connect"

	"sallyport/control"
	"sallyport/control/api"
	"sallyport/control/store"
)

// heartbeat says again that a sandbox is connected, well within store.ConnectedFor.
const heartbeat = store.ConnectedFor / 4

// mostOpenings is how many streams are opened at once.
const mostOpenings = 8

// Watch sends the newest snapshot at once and after every change of the team. A
// slow sidecar misses those in between, never the last.
func (s *Server) Watch(ctx context.Context, stream *connect.BidiStream[api.WatchRequest, api.WatchResponse]) error {
	p := peerOf(ctx)
	opening, err := api.ParseOpening(stream.RequestHeader().Get(api.HeaderOpening))
	if err != nil {
		return control.Errorf(control.CodeInvalid, "%s", err)
	}
	// All that a restart has cut off come back at once. Their turn is here, and not
	// among the calls that wait for the database: others would wait behind them.
	if err := s.openings.Acquire(ctx, 1); err != nil {
		return err
	}
	opened := sync.OnceFunc(func() { s.openings.Release(1) })
	defer opened()
	session, err := s.Store.OpenStream(ctx, p.Team, p.ID, opening, s.replica)
	if err != nil {
		return gone(err)
	}
	stream.ResponseHeader().Set(api.HeaderSession, session.String())
	// Joined before the first snapshot, so that no change falls between them.
	subscription := s.hub.join(p.Team, p.ID)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := &watch{server: s, team: p.Team, sandbox: p.ID, session: session, stream: stream, subscription: subscription}
	defer w.close(ctx)
	applied, failed := w.receive(ctx)
	return w.run(ctx, opened, applied, failed, time.Until(p.cert.NotAfter))
}

// watch is one stream.
type watch struct {
	server       *Server
	team         string
	sandbox      string
	session      store.Session
	stream       *connect.BidiStream[api.WatchRequest, api.WatchResponse]
	subscription *subscription

	sent, acknowledged int64            // revisions
	versions           map[string]int64 // of the credentials last sent, by id
	rotated            time.Time        // when the rotation that sent carries was announced; zero if it carries none
}

func (w *watch) run(ctx context.Context, opened func(), applied <-chan int64, failed <-chan error, validFor time.Duration) error {
	if err := w.push(ctx, change{alone: true}); err != nil {
		return err
	}
	opened()
	alive := time.NewTicker(heartbeat)
	defer alive.Stop()
	expiry := time.NewTimer(validFor)
	defer expiry.Stop()
	for {
		var err error
		select {
		case told := <-w.subscription.changed:
			err = w.push(ctx, told)
		case revision := <-applied:
			err = w.acknowledge(ctx, revision)
		case <-alive.C:
			err = w.keep(ctx)
		case <-w.subscription.ended:
			err = control.Errorf(control.CodeUnavailable, "%s", w.subscription.why)
		case <-expiry.C:
			err = control.Errorf(control.CodeUnavailable, "the certificate of this connection has expired; connect with the renewed one")
		case err := <-failed:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
		if err != nil {
			return err
		}
	}
}

// receive reads acknowledgements in the background until the stream ends, which
// it does soon after the handler returns.
func (w *watch) receive(ctx context.Context) (applied <-chan int64, failed <-chan error) {
	revisions, errs := make(chan int64), make(chan error, 1)
	w.server.receivers.Go(func() {
		for {
			request, err := w.stream.Receive()
			if err != nil {
				if errors.Is(err, io.EOF) {
					err = nil // the sidecar is done
				}
				errs <- err
				return
			}
			select {
			case revisions <- int64(request.GetAppliedRevision()):
			case <-ctx.Done():
				return
			}
		}
	})
	return revisions, errs
}

// push sends the newest snapshot, if it is newer than what was sent.
func (w *watch) push(ctx context.Context, told change) error {
	snapshot, err := w.snapshot(ctx, told)
	if err != nil {
		return gone(err)
	}
	if snapshot.State != control.SandboxEnrolled {
		return errGone
	}
	if !bytes.Equal(snapshot.Session, w.session) {
		return control.Errorf(control.CodeUnavailable, "%s", endReplaced)
	}
	if w.versions != nil && snapshot.Revision <= w.sent {
		return nil
	}
	message := w.server.Served(snapshot.Policy, snapshot.Credentials)
	message.Revision, message.OutageGrace, message.AuditMode = uint64(snapshot.Revision), w.server.grace, auditMode(snapshot.Audit)
	if err := w.stream.Send(message); err != nil {
		return fmt.Errorf("send a snapshot: %w", err)
	}
	w.server.Metrics.pushed()
	w.remember(snapshot, told.first)
	return nil
}

// snapshot reads the newest: with those of the others who were told the same, if
// it concerns them.
func (w *watch) snapshot(ctx context.Context, told change) (store.Snapshot, error) {
	if !told.alone {
		fleet, err := w.server.fleets.after(ctx, w.team, told.last)
		if err != nil {
			return store.Snapshot{}, err
		}
		if snapshot, found := fleet.Snapshot(w.sandbox); found {
			return snapshot, nil
		}
	}
	return w.server.Store.Snapshot(ctx, w.team, w.sandbox)
}

// remember notes what was sent, and whether it carries a rotation whose
// acknowledgement is worth timing.
func (w *watch) remember(snapshot store.Snapshot, announced time.Time) {
	versions := make(map[string]int64, len(snapshot.Credentials))
	for _, c := range snapshot.Credentials {
		versions[c.ID] = c.Version
		if before := w.versions[c.ID]; before != 0 && before != c.Version && w.rotated.IsZero() {
			w.rotated = announced
		}
	}
	w.sent, w.versions = snapshot.Revision, versions
}

// acknowledge records what the sidecar says it has applied; it can't have
// applied what it was not sent.
func (w *watch) acknowledge(ctx context.Context, revision int64) error {
	if revision < 0 || revision > w.sent {
		return control.Errorf(control.CodeInvalid, "revision %d was acknowledged before it was sent", revision)
	}
	if revision <= w.acknowledged {
		return nil
	}
	switch known, err := w.server.acknowledged.call(ctx, w.team, store.Applied{Sandbox: w.sandbox, Revision: revision}); {
	case err != nil:
		return gone(err)
	case !known:
		return errGone
	}
	w.acknowledged = revision
	if revision == w.sent && !w.rotated.IsZero() {
		w.server.Metrics.propagated(time.Since(w.rotated))
		w.rotated = time.Time{}
	}
	return nil
}

// keep says that the stream is still there.
func (w *watch) keep(ctx context.Context) error {
	kept, err := w.server.kept.call(ctx, w.team, store.Held{Sandbox: w.sandbox, Session: w.session})
	if err == nil && !kept {
		err = control.Errorf(control.CodeUnavailable, "%s", endReplaced)
	}
	return err
}

// close says that the stream is no more.
func (w *watch) close(ctx context.Context) {
	w.server.hub.leave(w.subscription)
	if _, err := w.server.closed.call(ctx, w.team, store.Held{Sandbox: w.sandbox, Session: w.session}); err != nil {
		w.server.Log.Warn("sandbox not marked as disconnected; it will be in two minutes", "sandbox", w.sandbox, "error", err)
	}
}

// auditMode is a team's mode as sidecars are told it; one that is unknown is the strictest.
func auditMode(m control.AuditMode) api.AuditMode {
	switch m {
	case control.AuditBestEffort:
		return api.AuditMode_AUDIT_MODE_BEST_EFFORT
	case control.AuditDurable:
		return api.AuditMode_AUDIT_MODE_DURABLE
	}
	return api.AuditMode_AUDIT_MODE_STRICT
}
