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

// Acknowledge records that the sandbox has applied revision.
func (s *Store) Acknowledge(ctx context.Context, teamID, sandboxID string, revision int64) error {
	tag, err := s.in(teamID).Exec(ctx, `
		update sandboxes s set applied_revision = greatest(s.applied_revision, least($3, t.revision)), last_seen_at = now()
		from teams t where t.id = s.team_id and s.team_id = $1 and s.id = $2`, teamID, sandboxID, revision)
	return must(tag, err, "record the sandbox's revision", "such sandbox")
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
