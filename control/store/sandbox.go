package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

const sandboxRows = `
	select s.id, a.name, s.state, coalesce(` + isConnected + `, false), s.applied_revision, s.version, s.created_at, s.enrolled_at, s.last_seen_at
	from sandboxes s join agents a on a.id = s.agent_id `

// CreateSandbox makes a pending sandbox of the agent of that name. tokenHash is
// the SHA-256 of its join token, which expires. Agent, sandbox and detail of act
// are filled in.
func (s *Store) CreateSandbox(ctx context.Context, teamID, agent string, tokenHash []byte, expires time.Time, act control.Event) (control.Sandbox, error) {
	var sandbox control.Sandbox
	id, what := NewID(), fmt.Sprintf("agent %q", agent)
	act.Agent, act.Sandbox, act.Detail = agent, id, agent+" "+id
	err := s.act(ctx, teamID, act, func(tx pgx.Tx) error {
		if err := room(ctx, tx, teamID, "sandboxes"); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `insert into sandboxes (id, team_id, agent_id) select $1, team_id, id from agents where team_id = $2 and name = $3`, id, teamID, agent)
		if err := must(tag, err, "create a sandbox", what); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `insert into join_tokens (hash, team_id, sandbox_id, expires_at) values ($1, $2, $3, now() + $4::interval)`, tokenHash, teamID, id, time.Until(expires))
		if err != nil {
			return interpret(err, "store the join token", what)
		}
		sandbox, err = one(ctx, tx, "such sandbox", pgx.RowToStructByPos[control.Sandbox], sandboxRows+`where s.team_id = $1 and s.id = $2`, teamID, id)
		return err
	})
	return sandbox, err
}

// Sandbox gives one of the team's sandboxes.
func (s *Store) Sandbox(ctx context.Context, teamID, sandboxID string) (control.Sandbox, error) {
	return one(ctx, s.in(teamID), "such sandbox", pgx.RowToStructByPos[control.Sandbox],
		sandboxRows+`where s.team_id = $1 and s.id = $2`, teamID, sandboxID)
}

// Sandboxes lists newest first.
func (s *Store) Sandboxes(ctx context.Context, teamID string, page Page) (sandboxes []control.Sandbox, next string, err error) {
	after, err := newest(page)
	if err != nil {
		return nil, "", err
	}
	sandboxes, err = all(ctx, s.in(teamID), "sandboxes", pgx.RowToStructByPos[control.Sandbox],
		sandboxRows+`where s.team_id = $1 and s.id < $2 order by s.id desc limit $3`, teamID, after, page.limit())
	sandboxes, next = cut(page, sandboxes, func(b control.Sandbox) string { return b.ID })
	return sandboxes, next, err
}

// RevokeSandbox cuts a sandbox off for good; doing so again changes nothing.
func (s *Store) RevokeSandbox(ctx context.Context, teamID, sandboxID string, act control.Event) (revision int64, err error) {
	act.Sandbox = sandboxID
	return s.change(ctx, teamID, act, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `update sandboxes set state = 'revoked', ended_at = coalesce(ended_at, now()) where team_id = $1 and id = $2`, teamID, sandboxID)
		if err := must(tag, err, "revoke the sandbox", "such sandbox"); err != nil {
			return err
		}
		return deleteCaptured(ctx, tx, teamID, sandboxID)
	})
}

// errUnchanged rolls a change back that turned out to be none.
var errUnchanged = errors.New("unchanged")

// lockSandbox cuts off a sandbox whose identity is in two hands.
func (s *Store) lockSandbox(ctx context.Context, teamID, sandboxID, reason string) error {
	known, err := s.Sandbox(ctx, teamID, sandboxID)
	if err != nil {
		return err
	}
	act := control.Event{Kind: "sandbox.lock", Actor: "system", Agent: known.Agent, Sandbox: sandboxID, Detail: reason}
	_, err = s.change(ctx, teamID, act, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
			update sandboxes set state = 'locked', ended_at = now()
			where team_id = $1 and id = $2 and state in ('pending', 'enrolled')`, teamID, sandboxID)
		if err == nil && tag.RowsAffected() == 0 {
			return errUnchanged
		}
		if err != nil {
			return interpret(err, "lock the sandbox", "such sandbox")
		}
		return deleteCaptured(ctx, tx, teamID, sandboxID)
	})
	if errors.Is(err, errUnchanged) {
		return nil
	}
	if err == nil {
		s.log.Warn("sandbox locked", "team", teamID, "sandbox", sandboxID, "reason", reason)
	}
	return err
}

// SandboxIdentity is whom a join token was for.
type SandboxIdentity struct {
	TeamID    string
	Team      string
	Agent     string
	SandboxID string
}

// ConsumeJoinToken uses up a join token. It is CodeUnauthorized if the token is
// unknown, expired or used; a second use also locks the sandbox and writes an event.
func (s *Store) ConsumeJoinToken(ctx context.Context, tokenHash []byte) (SandboxIdentity, error) {
	var id SandboxIdentity
	unknown := control.Errorf(control.CodeUnauthorized, "the join token is unknown or has expired: create a new sandbox")
	teamID, err := one(ctx, s.byToken(tokenHash), "such join token", pgx.RowTo[string], `select team_id from join_tokens where hash = $1`, tokenHash)
	if control.CodeOf(err) == control.CodeNotFound {
		return id, unknown
	} else if err != nil {
		return id, err
	}
	id, err = one(ctx, s.in(teamID), "such join token", pgx.RowToStructByPos[SandboxIdentity], `
		update join_tokens j set used_at = now()
		from sandboxes s join agents a on a.id = s.agent_id join teams t on t.id = s.team_id
		where j.hash = $1 and j.used_at is null and j.expires_at > now() and s.id = j.sandbox_id and s.state = 'pending'
		returning t.id, t.name, a.name, s.id`, tokenHash)
	if control.CodeOf(err) != control.CodeNotFound {
		return id, err
	}
	var sandboxID string
	var used bool
	err = s.in(teamID).QueryRow(ctx, `select sandbox_id, used_at is not null from join_tokens where hash = $1`, tokenHash).Scan(&sandboxID, &used)
	switch {
	case err != nil && !errors.Is(err, pgx.ErrNoRows):
		return id, interpret(err, "read the join token", "such join token")
	case err != nil || !used:
		return id, unknown
	}
	if err := s.lockSandbox(ctx, teamID, sandboxID, "its join token was used a second time"); err != nil {
		return id, err
	}
	return id, control.Errorf(control.CodeUnauthorized, "the join token was used before, so its sandbox is locked: create a new sandbox, and find out who else had the token")
}

var errNotEnrolled = control.Errorf(control.CodeForbidden, "the sandbox is not enrolled, or was revoked or locked: create a new sandbox")

// SetIdentity makes a pending sandbox whose join token was consumed an enrolled
// one, at generation 1. publicKeyHash is the SHA-256 of its certificate's
// SubjectPublicKeyInfo. It is CodeForbidden if the sandbox was locked or revoked meanwhile.
func (s *Store) SetIdentity(ctx context.Context, teamID, sandboxID string, publicKeyHash, sealKey []byte, version string) error {
	tag, err := s.in(teamID).Exec(ctx, `
		update sandboxes s set state = 'enrolled', public_key_hash = $3, seal_key = $4, version = $5,
			generation = 1, enrolled_at = now(), last_seen_at = now()
		from join_tokens j
		where s.team_id = $1 and s.id = $2 and s.state = 'pending' and j.sandbox_id = s.id and j.used_at is not null`,
		teamID, sandboxID, publicKeyHash, sealKey, clean(version))
	if err == nil && tag.RowsAffected() == 0 {
		return errNotEnrolled
	}
	return interpret(err, "enrol the sandbox", "such sandbox")
}

// Identity is what was set by SetIdentity, with the state that every call of a
// sandbox must be checked against. Before enrolment the keys are nil.
type Identity struct {
	SandboxIdentity
	State         control.SandboxState
	PublicKeyHash []byte
	SealKey       []byte
	Generation    int64
	Sessions      Sessions
}

// Identity gives a sandbox's identity, whatever its state.
func (s *Store) Identity(ctx context.Context, teamID, sandboxID string) (Identity, error) {
	return one(ctx, s.in(teamID), "such sandbox", func(row pgx.CollectableRow) (id Identity, err error) {
		return id, row.Scan(id.columns()...)
	}, `select `+identityColumns+` from sandboxes s join agents a on a.id = s.agent_id join teams t on t.id = s.team_id
		where s.team_id = $1 and s.id = $2`, teamID, sandboxID)
}

// identityColumns is read into columns.
const identityColumns = `t.id, t.name, a.name, s.id, s.state, s.public_key_hash, s.seal_key, s.generation, s.session, s.previous_session`

func (id *Identity) columns() []any {
	return []any{
		&id.TeamID, &id.Team, &id.Agent, &id.SandboxID, &id.State, &id.PublicKeyHash, &id.SealKey, &id.Generation,
		&id.Sessions.Current, &id.Sessions.Previous,
	}
}

// resendFor is how long a renewal may be asked for again whose answer is known to have
// arrived: calls that were given up may come late.
const resendFor = 2 * time.Minute

// AdvanceGeneration counts a renewal. from must be the current generation;
// anything else means that the identity was copied, which locks the sandbox
// (CodeForbidden). request is the SHA-256 of the CSR: the very same request sent
// again, because its answer was lost, gets the same answer until ConfirmGeneration,
// however long that takes, and for resendFor. Who copied the identity before the sidecar
// made that request does not have it; a copy that has it is worth no more than one of the
// moment after, which has the answer.
func (s *Store) AdvanceGeneration(ctx context.Context, teamID, sandboxID string, from int64, request []byte) (to int64, err error) {
	err = s.in(teamID).QueryRow(ctx, `
		update sandboxes set generation = generation + 1, renewal_request = $4, renewed_at = now(), last_seen_at = now()
		where team_id = $1 and id = $2 and state = 'enrolled' and generation = $3 returning generation`, teamID, sandboxID, from, request).Scan(&to)
	if !errors.Is(err, pgx.ErrNoRows) {
		return to, interpret(err, "renew the sandbox's identity", "such sandbox")
	}
	var state control.SandboxState
	var last []byte
	err = s.in(teamID).QueryRow(ctx, `
		select state, generation, case when confirmed_generation < generation or renewed_at > now() - $3::interval then renewal_request end
		from sandboxes where team_id = $1 and id = $2`,
		teamID, sandboxID, resendFor).Scan(&state, &to, &last)
	switch {
	case err != nil:
		return 0, interpret(err, "renew the sandbox's identity", "such sandbox")
	case state != control.SandboxEnrolled:
		return 0, errNotEnrolled
	case to == from+1 && last != nil && bytes.Equal(last, request):
		return to, nil
	}
	reason := fmt.Sprintf("generation %d of its identity was renewed when %d was current: the identity was copied", from, to)
	if err := s.lockSandbox(ctx, teamID, sandboxID, reason); err != nil {
		return 0, err
	}
	return 0, errNotEnrolled
}

// ConfirmGeneration notes that the sandbox has the answer to the renewal that led to a
// generation, so that nobody else has to be given it. One that is not the current
// changes nothing.
func (s *Store) ConfirmGeneration(ctx context.Context, teamID, sandboxID string, generation int64) error {
	_, err := s.in(teamID).Exec(ctx, `
		update sandboxes set confirmed_generation = $3
		where team_id = $1 and id = $2 and generation = $3 and confirmed_generation < $3`, teamID, sandboxID, generation)
	return interpret(err, "confirm the sandbox's renewal", "such sandbox")
}
