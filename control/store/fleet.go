package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

// Fleet is what the sandboxes of a team may use whose streams one replica holds,
// at one revision of the team: read at once, since a change concerns them all.
type Fleet struct {
	revision int64
	audit    control.AuditMode
	members  map[string]member // by sandbox
	policies map[string]control.Policy
	pinned   map[string][]control.Credential // by agent; shared by its sandboxes
	captured map[string][]control.Credential // by sandbox
}

// member is a sandbox of a Fleet.
type member struct {
	id, agent string
	state     control.SandboxState
	session   Session
}

// Fleet reads those of a team whose streams replica holds.
func (s *Store) Fleet(ctx context.Context, teamID, replica string) (*Fleet, error) {
	return s.fleet(ctx, teamID, "s.replica = $2", replica)
}

// FleetOf reads some sandboxes of a team.
func (s *Store) FleetOf(ctx context.Context, teamID string, sandboxes []string) (*Fleet, error) {
	return s.fleet(ctx, teamID, "s.id = any($2::uuid[])", sandboxes)
}

// fleet reads the sandboxes s that a condition with one argument, $2, is for.
func (s *Store) fleet(ctx context.Context, teamID, which string, argument any) (*Fleet, error) {
	f := &Fleet{
		members: make(map[string]member), policies: make(map[string]control.Policy),
		pinned: make(map[string][]control.Credential), captured: make(map[string][]control.Credential),
	}
	err := s.inTx(ctx, readOnly, teamID, func(tx pgx.Tx) error {
		var batch pgx.Batch
		batch.Queue(`select revision, audit from teams where id = $1`, teamID).QueryRow(func(row pgx.Row) error {
			return row.Scan(&f.revision, &f.audit)
		})
		f.readMembers(&batch, teamID, which, argument)
		f.readCredentials(&batch, teamID, which, argument)
		return interpret(tx.SendBatch(ctx, &batch).Close(), "read the team", "such team")
	})
	return f, err
}

func (f *Fleet) readMembers(batch *pgx.Batch, teamID, which string, argument any) {
	batch.Queue(`select s.id, s.agent_id, s.state, s.session from sandboxes s where s.team_id = $1 and `+which, teamID, argument).Query(func(rows pgx.Rows) error {
		var m member
		_, err := pgx.ForEachRow(rows, []any{&m.id, &m.agent, &m.state, &m.session}, func() error {
			f.members[m.id], m = m, member{}
			return nil
		})
		return err
	})
	batch.Queue(`select id, policy from agents where team_id = $1 and id in (select s.agent_id from sandboxes s where s.team_id = $1 and `+which+`)`, teamID, argument).Query(func(rows pgx.Rows) error {
		var id string
		var policy control.Policy
		_, err := pgx.ForEachRow(rows, []any{&id, &policy}, func() error {
			f.policies[id], policy = policy, control.Policy{}
			return nil
		})
		return err
	})
}

func (f *Fleet) readCredentials(batch *pgx.Batch, teamID, which string, argument any) {
	byVault := make(map[string][]control.Credential)
	batch.Queue(credentialRows+`where c.team_id = $1 and c.sandbox_id is null order by v.name, c.name`, teamID).Query(func(rows pgx.Rows) error {
		credentials, err := pgx.CollectRows(rows, scanCredential)
		for _, c := range credentials {
			byVault[c.Vault] = append(byVault[c.Vault], c)
		}
		return err
	})
	batch.Queue(`
		select p.agent_id, v.name from pins p join vaults v on v.id = p.vault_id where v.team_id = $1
		and p.agent_id in (select s.agent_id from sandboxes s where s.team_id = $1 and `+which+`) order by v.name`, teamID, argument).Query(func(rows pgx.Rows) error {
		var agent, vault string
		_, err := pgx.ForEachRow(rows, []any{&agent, &vault}, func() error {
			f.pinned[agent] = append(f.pinned[agent], byVault[vault]...)
			return nil
		})
		return err
	})
	batch.Queue(credentialRows+`
		join pins p on p.vault_id = c.vault_id join sandboxes s on s.id = c.sandbox_id and s.agent_id = p.agent_id
		where c.team_id = $1 and `+which+` and c.expires_at > now() order by v.name, c.name`, teamID, argument).Query(func(rows pgx.Rows) error {
		captured, err := pgx.CollectRows(rows, scanCredential)
		for _, c := range captured {
			f.captured[c.Captured.Sandbox] = append(f.captured[c.Captured.Sandbox], c)
		}
		return err
	})
}

// Snapshot is what Store.Snapshot gives for a sandbox, false if it is none of the
// fleet's. Its parts are shared with others: they must not be changed.
func (f *Fleet) Snapshot(sandboxID string) (Snapshot, bool) {
	m, found := f.members[sandboxID]
	if !found {
		return Snapshot{}, false
	}
	snapshot := Snapshot{Revision: f.revision, State: m.state, Session: m.session, Policy: f.policies[m.agent], Audit: f.audit}
	if m.state == control.SandboxEnrolled {
		pinned, captured := f.pinned[m.agent], f.captured[sandboxID]
		if len(captured) == 0 {
			snapshot.Shared = m.agent
		}
		snapshot.Credentials = append(pinned[:len(pinned):len(pinned)], captured...)
	}
	return snapshot, true
}
