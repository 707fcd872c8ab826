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
	f := &Fleet{
		members: make(map[string]member), policies: make(map[string]control.Policy),
		pinned: make(map[string][]control.Credential), captured: make(map[string][]control.Credential),
	}
	err := s.inTx(ctx, readOnly, teamID, func(tx pgx.Tx) (err error) {
		err = tx.QueryRow(ctx, `select revision, audit from teams where id = $1`, teamID).Scan(&f.revision, &f.audit)
		if err != nil {
			return interpret(err, "read the team", "such team")
		}
		if err := f.readMembers(ctx, tx, teamID, replica); err != nil {
			return err
		}
		return f.readCredentials(ctx, tx, teamID, replica)
	})
	return f, err
}

func (f *Fleet) readMembers(ctx context.Context, tx pgx.Tx, teamID, replica string) error {
	members, err := all(ctx, tx, "the team's sandboxes", func(row pgx.CollectableRow) (m member, err error) {
		err = row.Scan(&m.id, &m.agent, &m.state, &m.session)
		return m, err
	}, `select id, agent_id, state, session from sandboxes where team_id = $1 and replica = $2`, teamID, replica)
	if err != nil {
		return err
	}
	for _, m := range members {
		f.members[m.id] = m
	}
	rows, err := tx.Query(ctx, `select id, policy from agents where team_id = $1`, teamID)
	if err != nil {
		return interpret(err, "read the agents' policies", "such team")
	}
	var id string
	var policy control.Policy
	_, err = pgx.ForEachRow(rows, []any{&id, &policy}, func() error {
		f.policies[id], policy = policy, control.Policy{}
		return nil
	})
	return interpret(err, "read the agents' policies", "such team")
}

func (f *Fleet) readCredentials(ctx context.Context, tx pgx.Tx, teamID, replica string) error {
	credentials, err := all(ctx, tx, "the team's credentials", scanCredential, credentialRows+`
		where c.team_id = $1 and c.sandbox_id is null order by v.name, c.name`, teamID)
	if err != nil {
		return err
	}
	byVault := make(map[string][]control.Credential)
	for _, c := range credentials {
		byVault[c.Vault] = append(byVault[c.Vault], c)
	}
	rows, err := tx.Query(ctx, `
		select p.agent_id, v.name from pins p join vaults v on v.id = p.vault_id where v.team_id = $1 order by v.name`, teamID)
	if err != nil {
		return interpret(err, "read the pins", "such team")
	}
	var agent, vault string
	_, err = pgx.ForEachRow(rows, []any{&agent, &vault}, func() error {
		f.pinned[agent] = append(f.pinned[agent], byVault[vault]...)
		return nil
	})
	if err != nil {
		return interpret(err, "read the pins", "such team")
	}
	captured, err := all(ctx, tx, "what the sandboxes captured", scanCredential, credentialRows+`
		join pins p on p.vault_id = c.vault_id join sandboxes s on s.id = c.sandbox_id and s.agent_id = p.agent_id
		where c.team_id = $1 and s.replica = $2 and c.expires_at > now() order by v.name, c.name`, teamID, replica)
	for _, c := range captured {
		f.captured[c.Captured.Sandbox] = append(f.captured[c.Captured.Sandbox], c)
	}
	return err
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
		snapshot.Credentials = append(pinned[:len(pinned):len(pinned)], captured...)
	}
	return snapshot, true
}
