package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

// AgentPolicy is an agent's policy, and the credentials that it goes beside.
type AgentPolicy struct {
	control.Policy
	Revision    int64                // of the team
	Credentials []control.Credential // of the pinned vaults, by vault and name
}

// Policy gives the policy of the team's agent of that name.
func (s *Store) Policy(ctx context.Context, teamID, agent string) (AgentPolicy, error) {
	var p AgentPolicy
	err := s.inTx(ctx, readOnly, teamID, func(tx pgx.Tx) error {
		var agentID string
		err := tx.QueryRow(ctx, `
			select a.id, a.policy, t.revision from agents a join teams t on t.id = a.team_id where a.team_id = $1 and a.name = $2`,
			teamID, agent).Scan(&agentID, &p.Policy, &p.Revision)
		if err != nil {
			return interpret(err, "read the policy", fmt.Sprintf("agent %q", agent))
		}
		p.Credentials, err = pinnedCredentials(ctx, tx, teamID, agentID)
		return err
	})
	return p, err
}

// SetPolicy gives the agent another policy, in the normal form of package policy,
// unless may refuses the one it has until then; nil allows all.
func (s *Store) SetPolicy(ctx context.Context, teamID, agent string, policy control.Policy, may func(control.Policy) error, act control.Event) (AgentPolicy, error) {
	p := AgentPolicy{Policy: policy}
	var err error
	p.Revision, err = s.change(ctx, teamID, act, func(tx pgx.Tx) error {
		var agentID string
		var current control.Policy
		// The team's row is locked: nobody changes it in between.
		err := tx.QueryRow(ctx, `select id, policy from agents where team_id = $1 and name = $2`, teamID, agent).Scan(&agentID, &current)
		if err != nil {
			return interpret(err, "read the policy", fmt.Sprintf("agent %q", agent))
		}
		if may != nil {
			if err := may(current); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, `update agents set policy = $3 where team_id = $1 and id = $2`, teamID, agentID, policy); err != nil {
			return interpret(err, "set the policy", "such agent")
		}
		p.Credentials, err = pinnedCredentials(ctx, tx, teamID, agentID)
		return err
	})
	return p, err
}

// pinnedCredentials are those that the agent may use, by vault and name, but for
// those that one of its sandboxes captured.
func pinnedCredentials(ctx context.Context, tx pgx.Tx, teamID, agentID string) ([]control.Credential, error) {
	return all(ctx, tx, "the agent's credentials", scanCredential, credentialRows+`
		join pins p on p.vault_id = c.vault_id
		where c.team_id = $1 and p.agent_id = $2 and c.sandbox_id is null order by v.name, c.name`, teamID, agentID)
}
