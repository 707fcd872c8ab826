package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

const agentRows = `
	select a.id, a.name,
		array(select v.name from pins p join vaults v on v.id = p.vault_id where p.agent_id = a.id order by v.name),
		a.created_at
	from agents a `

// CreateAgent makes an agent with no pins.
func (s *Store) CreateAgent(ctx context.Context, teamID, name string, act control.Event) (control.Agent, error) {
	agent := control.Agent{ID: NewID(), Name: name, Vaults: []string{}}
	err := s.act(ctx, teamID, act, func(tx pgx.Tx) error {
		if err := room(ctx, tx, teamID, "agents"); err != nil {
			return err
		}
		err := tx.QueryRow(ctx, `insert into agents (id, team_id, name) values ($1, $2, $3) returning created_at`,
			agent.ID, teamID, name).Scan(&agent.CreatedAt)
		return interpret(err, fmt.Sprintf("create agent %q", name), "such team")
	})
	return agent, err
}

// Agent gives the team's agent of that name.
func (s *Store) Agent(ctx context.Context, teamID, name string) (control.Agent, error) {
	return one(ctx, s.in(teamID), fmt.Sprintf("agent %q", name), pgx.RowToStructByPos[control.Agent],
		agentRows+`where a.team_id = $1 and a.name = $2`, teamID, name)
}

// Agents lists by name.
func (s *Store) Agents(ctx context.Context, teamID string, page Page) (agents []control.Agent, next string, err error) {
	agents, err = all(ctx, s.in(teamID), "agents", pgx.RowToStructByPos[control.Agent],
		agentRows+`where a.team_id = $1 and a.name > $2 order by a.name limit $3`, teamID, page.After, page.limit())
	agents, next = cut(page, agents, func(a control.Agent) string { return a.Name })
	return agents, next, err
}

// DeleteAgent deletes an agent with its pins and sandboxes.
func (s *Store) DeleteAgent(ctx context.Context, teamID, name string, act control.Event) (revision int64, err error) {
	what := fmt.Sprintf("agent %q", name)
	return s.change(ctx, teamID, act, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `delete from agents where team_id = $1 and name = $2`, teamID, name)
		return must(tag, err, "delete "+what, what)
	})
}

// Pin lets the agent use the vault's credentials; pinning again changes nothing.
// It is CodeConflict if the agent would then have two credentials for one host
// pattern, since there would be no telling which to use.
func (s *Store) Pin(ctx context.Context, teamID, agent, vault string, act control.Event) (revision int64, err error) {
	return s.change(ctx, teamID, act, func(tx pgx.Tx) error {
		agentID, vaultID, err := agentAndVault(ctx, tx, teamID, agent, vault)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `insert into pins (team_id, agent_id, vault_id) values ($1, $2, $3) on conflict do nothing`, teamID, agentID, vaultID)
		if err != nil {
			return interpret(err, "pin the vault", "such agent or vault")
		}
		return refuseTie(ctx, tx, teamID, vaultID)
	})
}

// Unpin takes the vault's credentials from the agent. What its sandboxes have captured
// with them is deleted, so that no later pin brings it back.
func (s *Store) Unpin(ctx context.Context, teamID, agent, vault string, act control.Event) (revision int64, err error) {
	return s.change(ctx, teamID, act, func(tx pgx.Tx) error {
		agentID, vaultID, err := agentAndVault(ctx, tx, teamID, agent, vault)
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `delete from pins where team_id = $1 and agent_id = $2 and vault_id = $3`, teamID, agentID, vaultID)
		if err := must(tag, err, "unpin the vault", fmt.Sprintf("pin of vault %q to agent %q", vault, agent)); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			delete from credentials where team_id = $1 and vault_id = $3 and sandbox_id in (select id from sandboxes where agent_id = $2)`, teamID, agentID, vaultID)
		return interpret(err, "delete what was captured", "such agent or vault")
	})
}

func agentAndVault(ctx context.Context, tx pgx.Tx, teamID, agent, vault string) (agentID, vaultID string, err error) {
	agentID, err = one(ctx, tx, fmt.Sprintf("agent %q", agent), pgx.RowTo[string],
		`select id from agents where team_id = $1 and name = $2`, teamID, agent)
	if err != nil {
		return "", "", err
	}
	vaultID, err = one(ctx, tx, fmt.Sprintf("vault %q", vault), pgx.RowTo[string],
		`select id from vaults where team_id = $1 and name = $2`, teamID, vault)
	return agentID, vaultID, err
}

// refuseTie looks for two credentials that serve the same place, one of them in
// the vault and both within the reach of one agent, or both in the vault. It is
// called within change, which lets no other change of the team come between.
//
// A place is a host pattern, its port, and TLS or plain HTTP, as a sidecar
// compares them: with allow_http a pattern without a port also serves port 80.
func refuseTie(ctx context.Context, tx pgx.Tx, teamID, vaultID string) error {
	var agent, mine, other, pattern string
	err := tx.QueryRow(ctx, `
		with reach (vault_id, agent) as (
			select $2::uuid, ''
			union all
			select there.vault_id, a.name
			from pins here
			join pins there on there.agent_id = here.agent_id and there.vault_id <> here.vault_id
			join agents a on a.id = here.agent_id
			where here.team_id = $1 and here.vault_id = $2
		), place (vault_id, credential_id, pattern, tls) as (
			select vault_id, credential_id, pattern, true from credential_hosts
			where vault_id in (select vault_id from reach)
			union all
			select h.vault_id, h.credential_id, case when h.pattern like '%:%' then h.pattern else h.pattern || ':80' end, false
			from credential_hosts h join credentials c on c.id = h.credential_id
			where c.allow_http and h.vault_id in (select vault_id from reach)
		)
		select reach.agent, mv.name || '/' || mc.name, ov.name || '/' || oc.name, mine.pattern || case when mine.tls then '' else ' (plain HTTP)' end
		from reach
		join place other on other.vault_id = reach.vault_id
		join place mine on mine.vault_id = $2 and mine.pattern = other.pattern and mine.tls = other.tls and mine.credential_id <> other.credential_id
		join credentials mc on mc.id = mine.credential_id join vaults mv on mv.id = mc.vault_id
		join credentials oc on oc.id = other.credential_id join vaults ov on ov.id = oc.vault_id
		order by 1, 2, 3, 4 limit 1`, teamID, vaultID).Scan(&agent, &mine, &other, &pattern)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return interpret(err, "compare the credentials' hosts", "such vault")
	case agent == "":
		return control.Errorf(control.CodeConflict, "credentials %s and %s would both be for %s: delete one, or give one other hosts", mine, other, pattern)
	}
	return control.Errorf(control.CodeConflict,
		"agent %q would have two credentials for %s, %s and %s: unpin one of the vaults, delete one of the credentials, or give one other hosts", agent, pattern, mine, other)
}
