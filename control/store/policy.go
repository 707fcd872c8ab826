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

// SetPolicy gives the agent another policy, in the normal form of package policy.
func (s *Store) SetPolicy(ctx context.Context, teamID, agent string, policy control.Policy, act control.Event) (AgentPolicy, error) {
	p := AgentPolicy{Policy: policy}
	var err error
	p.Revision, err = s.change(ctx, teamID, act, func(tx pgx.Tx) error {
		agentID, err := one(ctx, tx, fmt.Sprintf("agent %q", agent), pgx.RowTo[string],
			`update agents set policy = $3 where team_id = $1 and name = $2 returning id`, teamID, agent, policy)
		if err != nil {
			return err
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
