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

// returnsWithin is how long a sandbox counts as connected whose stream has broken off.
const returnsWithin = 3 * time.Second

const (
	// mostOpenings is how many streams are opened at once: those of a team together.
	mostOpenings = 256
	// openingTurns is how many connections to the database they take.
	openingTurns = 8
)

// Watch sends the newest snapshot at once and after every change of the team. A
// slow sidecar misses those in between, never the last.
func (s *Server) Watch(ctx context.Context, stream *connect.BidiStream[api.WatchRequest, api.WatchResponse]) (err error) {
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
	turnOver := sync.OnceFunc(func() { s.openings.Release(1) })
	defer turnOver()
	opened, err := s.opened.call(ctx, p.Team, store.Opening{Sandbox: p.ID, KeyHash: p.keyHash(), Opening: opening})
	if err == nil {
		err = opened.Err
	}
	if errors.Is(err, store.ErrOtherKey) {
		s.alert(ctx, p, forged)
	}
	if err != nil {
		if opened.Last != (api.Opening{}) {
			stream.ResponseHeader().Set(api.HeaderOpening, opened.Last.String())
		}
		return gone(err)
	}
	stream.ResponseHeader().Set(api.HeaderSession, opened.Session.String())
	// Joined before the first snapshot, so that no change falls between them.
	subscription := s.hub.join(p.Team, p.ID)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := &watch{server: s, peer: p, session: opened.Session, stream: stream, subscription: subscription}
	defer func() { w.end(ctx, err) }()
	first, err := s.firsts.call(ctx, p.Team, p.ID)
	if err == nil {
		err = first.err
	}
	if err != nil {
		return gone(err)
	}
	turnOver() // before anything is sent, which takes as long as whoever reads it likes
	applied, failed := w.receive(ctx)
	return w.run(ctx, first, applied, failed)
}

// firstSnapshots are those of streams that have just been opened.
func (s *Server) firstSnapshots(ctx context.Context, team string, sandboxes []string) ([]pushed, error) {
	all := make([]pushed, len(sandboxes))
	if len(sandboxes) == 1 {
		all[0] = s.snapshot(ctx, team, sandboxes[0])
		return all, nil
	}
	fleet, err := s.Store.FleetOf(ctx, team, sandboxes)
	if err != nil {
		return nil, err
	}
	read := newReading(fleet)
	for i, sandbox := range sandboxes {
		var found bool
		if all[i], found = read.of(sandbox, s.message); !found {
			all[i].err = errGone
		}
	}
	return all, nil
}

// snapshot reads that of one sandbox.
func (s *Server) snapshot(ctx context.Context, team, sandbox string) pushed {
	snapshot, err := s.Store.Snapshot(ctx, team, sandbox)
	if err != nil {
		return pushed{err: err}
	}
	return pushed{Snapshot: snapshot, message: s.message(snapshot)}
}

// message says a snapshot to a sidecar.
func (s *Server) message(snapshot store.Snapshot) *api.WatchResponse {
	m := s.Served(snapshot.Policy, snapshot.Credentials)
	m.Revision, m.OutageGrace, m.AuditMode = uint64(snapshot.Revision), s.grace, auditMode(snapshot.Audit)
	return m
}

// watch is one stream.
type watch struct {
	server       *Server
	peer         peer
	session      store.Session
	stream       *connect.BidiStream[api.WatchRequest, api.WatchResponse]
	subscription *subscription

	sent, acknowledged int64            // revisions
	versions           map[string]int64 // of the credentials last sent, by id
	rotated            time.Time        // when the rotation that sent carries was announced; zero if it carries none
}

func (w *watch) run(ctx context.Context, first pushed, applied <-chan int64, failed <-chan error) error {
	if err := w.send(ctx, first, time.Time{}); err != nil {
		return err
	}
	alive := time.NewTicker(heartbeat)
	defer alive.Stop()
	expiry := time.NewTimer(time.Until(w.peer.cert.NotAfter))
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
	newest, err := w.newest(ctx, told)
	if err != nil {
		return gone(err)
	}
	return w.send(ctx, newest, told.first)
}

// vouched is nil while the certificate that opened the stream is good: the CA that issued
// it may be trusted no longer.
func (w *watch) vouched(ctx context.Context) error {
	_, err := w.server.verify(ctx, w.peer.cert, 0)
	return err
}

// send sends a snapshot unless it is as old as what was sent. announced is when a
// rotation in it was.
func (w *watch) send(ctx context.Context, newest pushed, announced time.Time) error {
	if err := w.vouched(ctx); err != nil {
		return err
	}
	if newest.State != control.SandboxEnrolled {
		return errGone
	}
	if !bytes.Equal(newest.Session, w.session) {
		return control.Errorf(control.CodeUnavailable, "%s", endReplaced)
	}
	if w.versions != nil && newest.Revision <= w.sent {
		return nil
	}
	if err := w.stream.Send(newest.message); err != nil {
		return fmt.Errorf("send a snapshot: %w", err)
	}
	w.server.Metrics.pushed()
	w.remember(newest.Snapshot, announced)
	return nil
}

// newest reads the newest snapshot: with those of the others who were told the same, if
// it concerns them.
func (w *watch) newest(ctx context.Context, told change) (pushed, error) {
	if !told.alone {
		fleet, err := w.server.fleets.after(ctx, w.peer.Team, told.last)
		if err != nil {
			return pushed{}, err
		}
		if newest, found := fleet.of(w.peer.ID, w.server.message); found {
			return newest, nil
		}
	}
	newest := w.server.snapshot(ctx, w.peer.Team, w.peer.ID)
	return newest, newest.err
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
	switch known, err := w.server.acknowledged.call(ctx, w.peer.Team, store.Applied{Sandbox: w.peer.ID, Revision: revision}); {
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
	if err := w.vouched(ctx); err != nil {
		return err
	}
	kept, err := w.server.kept.call(ctx, w.peer.Team, store.Held{Sandbox: w.peer.ID, Session: w.session})
	if err == nil && !kept {
		err = control.Errorf(control.CodeUnavailable, "%s", endReplaced)
	}
	return err
}

// end has the sandbox count as disconnected: at once if its sidecar has said that it is
// done. Else that opens another stream, and who waits for a rotation to have reached all
// waits for it, too.
func (w *watch) end(ctx context.Context, err error) {
	if err == nil {
		w.close(ctx)
		return
	}
	w.server.receivers.Go(func() {
		timer := time.NewTimer(returnsWithin)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-w.subscription.ended:
			if w.subscription.why == endDraining {
				return // as if this replica had died
			}
		}
		w.close(ctx)
	})
}

// close says that the stream is no more.
func (w *watch) close(ctx context.Context) {
	w.server.hub.leave(w.subscription)
	if _, err := w.server.closed.call(ctx, w.peer.Team, store.Held{Sandbox: w.peer.ID, Session: w.session}); err != nil {
		w.server.Log.Warn("sandbox not marked as disconnected; it will be in two minutes", "sandbox", w.peer.ID, "error", err)
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
