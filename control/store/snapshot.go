package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

// Snapshot is all that a sandbox may use, at one revision of its team.
type Snapshot struct {
	Revision    int64
	State       control.SandboxState
	Session     Session              // of the sandbox's only stream
	Credentials []control.Credential // by vault and name, those it captured last; empty unless State is enrolled
	Policy      control.Policy
	Audit       control.AuditMode
	// Shared is what the sandboxes of a Fleet have in common whose snapshots differ
	// in State and Session only; empty: nothing.
	Shared string
}

// Snapshot is CodeNotFound for a sandbox that is gone with its agent: treat it as revoked.
func (s *Store) Snapshot(ctx context.Context, teamID, sandboxID string) (Snapshot, error) {
	var snap Snapshot
	err := s.inTx(ctx, readOnly, teamID, func(tx pgx.Tx) error {
		var agentID string
		err := tx.QueryRow(ctx, `
			select t.revision, s.state, s.session, s.agent_id, a.policy, t.audit
			from sandboxes s join teams t on t.id = s.team_id join agents a on a.id = s.agent_id where s.team_id = $1 and s.id = $2`,
			teamID, sandboxID).Scan(&snap.Revision, &snap.State, &snap.Session, &agentID, &snap.Policy, &snap.Audit)
		if err != nil {
			return interpret(err, "read the sandbox", "such sandbox")
		}
		if snap.State != control.SandboxEnrolled {
			return nil
		}
		if snap.Credentials, err = pinnedCredentials(ctx, tx, teamID, agentID); err != nil {
			return err
		}
		captured, err := capturedCredentials(ctx, tx, teamID, sandboxID)
		snap.Credentials = append(snap.Credentials, captured...)
		return err
	})
	return snap, err
}

// Applied is the revision that a sandbox has applied.
type Applied struct {
	Sandbox  string
	Revision int64
}

// Acknowledge records what sandboxes of a team have applied. It says of each whether
// there is such a sandbox.
func (s *Store) Acknowledge(ctx context.Context, teamID string, applied []Applied) (known []bool, err error) {
	ids, revisions := make([]string, len(applied)), make([]int64, len(applied))
	for i, a := range applied {
		ids[i], revisions[i] = a.Sandbox, a.Revision
	}
	// Locked in one order, as others do that concern many.
	found, err := all(ctx, s.in(teamID), "the sandboxes", pgx.RowTo[string], `
		with given as (
			select id, max(revision) as revision from unnest($2::uuid[], $3::bigint[]) as a (id, revision) group by id
		), locked as (
			select s.id from sandboxes s join given g on g.id = s.id where s.team_id = $1 order by s.id for no key update of s
		)
		update sandboxes s set applied_revision = greatest(s.applied_revision, least(g.revision, t.revision)), last_seen_at = now()
		from given g, locked l, teams t where l.id = g.id and s.id = g.id and t.id = s.team_id returning s.id::text`, teamID, ids, revisions)
	return foundAmong(ids, found), err
}

// foundAmong says of each id whether it was found.
func foundAmong(ids, found []string) []bool {
	known := make(map[string]bool, len(found))
	for _, id := range found {
		known[id] = true
	}
	all := make([]bool, len(ids))
	for i, id := range ids {
		all[i] = known[id]
	}
	return all
}

// Acknowledged counts the connected sandboxes that hold a binding of the
// credential, and those of them that have applied revision.
func (s *Store) Acknowledged(ctx context.Context, teamID, credentialID string, revision int64) (connected, acknowledged int, err error) {
	err = s.in(teamID).QueryRow(ctx, `
		select count(*), count(*) filter (where s.applied_revision >= $3)
		from credentials c join pins p on p.vault_id = c.vault_id join sandboxes s on s.agent_id = p.agent_id
		where c.team_id = $1 and c.id = $2 and `+mayUse+` and `+isConnected, teamID, credentialID, revision).Scan(&connected, &acknowledged)
	return connected, acknowledged, interpret(err, "count acknowledgements", "such credential")
}
