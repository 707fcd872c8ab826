package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
	"sallyport/control/api"
)

// ConnectedFor is how long a sandbox counts as connected after OpenStream,
// KeepStreams or Acknowledge. Whoever holds its stream calls KeepStreams well
// within it, so that a replica that died leaves no sandbox connected for ever.
const ConnectedFor = 2 * time.Minute

// isConnected is the condition for it on sandboxes s.
const isConnected = `(s.state = 'enrolled' and s.replica is not null and s.last_seen_at > now() - interval '2 minutes')`

// lateOpenings is how far behind the last opening of a stream another one of the
// same worker may be: one that was given up, and arrives all the same.
const lateOpenings = 8

// Session is what tells the holder of a sandbox's stream from a copy of its identity.
type Session []byte

// String is what the holder carries.
func (s Session) String() string { return base64.RawURLEncoding.EncodeToString(s) }

// Opening is one of a sandbox.
type Opening struct {
	Sandbox string
	KeyHash []byte // of who opens it, see Identity
	api.Opening
}

// Opened is the session of a stream, or why there is none.
type Opened struct {
	Session Session
	Err     error
	Last    api.Opening // the one that overtook it, if one did
}

// ErrOtherKey is for whoever has a certificate for a sandbox by another key than it
// enrolled with. Who has the control CA's key can make one.
var ErrOtherKey = control.Errorf(control.CodeForbidden, "the sandbox enrolled with another key")

// OpenStream makes a stream the sandbox's only one, held by replica, a name unique
// to the process. It is CodeForbidden unless the sandbox is enrolled. An opening
// that is not later than the last one is somebody else's, who has the same
// identity: that locks the sandbox.
func (s *Store) OpenStream(ctx context.Context, teamID string, o Opening, replica string) (Session, error) {
	opened, err := s.OpenStreams(ctx, teamID, []Opening{o}, replica)
	if err != nil {
		return nil, err
	}
	return opened[0].Session, opened[0].Err
}

// OpenStreams is OpenStream for many sandboxes of a team, each as if it came alone,
// in their order.
func (s *Store) OpenStreams(ctx context.Context, teamID string, openings []Opening, replica string) ([]Opened, error) {
	all := make([]Opened, len(openings))
	for rest := indices(openings); len(rest) > 0; {
		var now, later []int // no sandbox twice at once
		among := make(map[string]bool)
		for _, i := range rest {
			if id := openings[i].Sandbox; !among[id] {
				among[id], now = true, append(now, i)
			} else {
				later = append(later, i)
			}
		}
		if err := s.openStreams(ctx, teamID, openings, now, all, replica); err != nil {
			return nil, err
		}
		rest = later
	}
	return all, nil
}

func indices[T any](of []T) []int {
	all := make([]int, len(of))
	for i := range all {
		all[i] = i
	}
	return all
}

// openStreams opens those of now, which are of different sandboxes.
func (s *Store) openStreams(ctx context.Context, teamID string, openings []Opening, now []int, opened []Opened, replica string) error {
	var ids []string
	var workers, streams []int64
	var sessions []Session
	var keys [][]byte
	for _, i := range now {
		session := make(Session, 32)
		rand.Read(session) // never fails
		ids, sessions, keys = append(ids, openings[i].Sandbox), append(sessions, session), append(keys, openings[i].KeyHash)
		workers, streams = append(workers, int64(openings[i].Worker)), append(streams, int64(openings[i].Stream))
	}
	// The replica that held a stream before ends it when it hears of this.
	found, err := all(ctx, s.in(teamID), "the sandboxes' streams", func(row pgx.CollectableRow) (id string, err error) {
		var notified *string
		return id, row.Scan(&id, &notified)
	}, `
		with given as (
			select * from unnest($2::uuid[], $3::bigint[], $4::bigint[], $5::bytea[], $7::bytea[]) as g (id, worker, opening, session, key)
		), before as (
			select s.id, s.replica from sandboxes s join given g on g.id = s.id where s.team_id = $1 order by s.id for update of s
		), opened as (
			update sandboxes s set worker = g.worker, opening = g.opening, previous_session = s.session, session = g.session, replica = $6, last_seen_at = now()
			from before b, given g where s.id = b.id and g.id = b.id and s.state = 'enrolled' and s.public_key_hash = g.key
				and (s.worker, s.opening) < (g.worker, g.opening)
			returning s.id, b.replica as before
		)
		select id::text, (case when before <> $6 then pg_notify('`+channel+`', $1::text || '/' || id::text) end)::text from opened`,
		teamID, ids, workers, streams, sessions, replica, keys)
	if err != nil {
		return err
	}
	for n, known := range foundAmong(ids, found) {
		i := now[n]
		if opened[i].Session = sessions[n]; !known {
			opened[i] = s.refuseOpening(ctx, teamID, openings[i])
		}
	}
	return nil
}

func (s *Store) refuseOpening(ctx context.Context, teamID string, o Opening) Opened {
	var state control.SandboxState
	var key []byte
	var last api.Opening
	err := s.in(teamID).QueryRow(ctx, `select state, public_key_hash, worker, opening from sandboxes where team_id = $1 and id = $2`, teamID, o.Sandbox).
		Scan(&state, &key, &last.Worker, &last.Stream)
	switch {
	case err != nil:
		return Opened{Err: interpret(err, "open the sandbox's stream", "such sandbox")}
	case state != control.SandboxEnrolled:
		return Opened{Err: errNotEnrolled}
	case !bytes.Equal(key, o.KeyHash):
		return Opened{Err: ErrOtherKey}
	case o.Worker == last.Worker && o.Stream < last.Stream && last.Stream-o.Stream <= lateOpenings:
		return Opened{Err: errMoved, Last: last}
	}
	reason := fmt.Sprintf("its stream was opened as %s when %s was open already: its identity was copied", o.Opening, last)
	if err := s.lockSandbox(ctx, teamID, o.Sandbox, reason); err != nil {
		return Opened{Err: err}
	}
	return Opened{Err: errNotEnrolled}
}

// errMoved is for what was overtaken: whoever holds the identity rightly tries again.
var errMoved = control.Errorf(control.CodeUnavailable, "the sandbox has opened another stream")

// Held is a sandbox's stream, by its session.
type Held struct {
	Sandbox string
	Session Session
}

// heldStreams locks the sandboxes of a team whose sessions are still the given ones, in one
// order, as others do that concern many.
const heldStreams = `
	with given as (
		select * from unnest($2::uuid[], $3::bytea[]) as h (id, session)
	), locked as (
		select s.id from sandboxes s join given g on g.id = s.id and g.session = s.session
		where s.team_id = $1 order by s.id for no key update of s
	) `

// KeepStreams says that the sessions' streams are still there. It says of each
// whether there is none later.
func (s *Store) KeepStreams(ctx context.Context, teamID string, held []Held) (kept []bool, err error) {
	ids, sessions := split(held)
	found, err := all(ctx, s.in(teamID), "the sandboxes' connections", pgx.RowTo[string], heldStreams+`
		update sandboxes s set last_seen_at = now() from locked l where s.id = l.id returning s.id::text`, teamID, ids, sessions)
	return foundAmong(ids, found), err
}

// CloseStreams records that the sessions' streams have ended, but for those with a later one.
func (s *Store) CloseStreams(ctx context.Context, teamID string, held []Held) error {
	ids, sessions := split(held)
	_, err := s.in(teamID).Exec(ctx, heldStreams+`
		update sandboxes s set replica = null, last_seen_at = now() from locked l where s.id = l.id`, teamID, ids, sessions)
	return interpret(err, "record that sandboxes have left", "such sandbox")
}

func split(held []Held) (ids []string, sessions []Session) {
	for _, h := range held {
		ids, sessions = append(ids, h.Sandbox), append(sessions, h.Session)
	}
	return ids, sessions
}

// Sessions are those that a sandbox has been given last.
type Sessions struct {
	Current  Session
	Previous Session
}

// Check is nil for the text of the current session, and CodeUnavailable otherwise:
// the holder of the stream tries again with the newest. strange reports that it is
// no session of late, so not the holder's.
func (s Sessions) Check(text string) (strange bool, err error) {
	given, err := base64.RawURLEncoding.DecodeString(text)
	switch {
	case err == nil && len(given) > 0 && slices.Equal(given, s.Current):
		return false, nil
	case err == nil && len(given) > 0 && slices.Equal(given, s.Previous):
		return false, errMoved
	}
	return true, errNoStream
}

var errNoStream = control.Errorf(control.CodeUnavailable, "open the stream of this sandbox first")

// Alert records that something of the sandbox looks like somebody else's doing.
func (s *Store) Alert(ctx context.Context, teamID, sandboxID, detail string) error {
	known, err := s.Sandbox(ctx, teamID, sandboxID)
	if err != nil {
		return err
	}
	s.log.Warn("sandbox alert", "team", teamID, "sandbox", sandboxID, "detail", detail)
	act := control.Event{Kind: "sandbox.alert", Actor: "system", Agent: known.Agent, Sandbox: sandboxID, Detail: detail}
	return s.act(ctx, teamID, act, func(pgx.Tx) error { return nil })
}
