package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

// Bound is a credential that a sandbox may use now, with what opens its secret.
type Bound struct {
	Credential control.Credential
	Identity   control.SecretIdentity
	Key        control.WrappedKey
	Secret     control.SealedSecret
	Source     *SealedSource // where the secret lies, if Secret is only its digest; else nil
}

// unbound is said alike of what does not exist and what is not bound, so that
// nothing can be learnt of other agents' credentials.
const unbound = "such credential bound to this sandbox at this version"

// Bound is CodeForbidden unless the sandbox is enrolled, and the same CodeNotFound
// for a credential that does not exist, is not pinned, or has another version now. A
// version that the current one overlaps with is one that it has.
func (s *Store) Bound(ctx context.Context, teamID, sandboxID, credentialID string, version int64) (Bound, error) {
	var b Bound
	err := s.inTx(ctx, readOnly, teamID, func(tx pgx.Tx) error {
		if _, err := enrolled(ctx, tx, "", teamID, sandboxID); err != nil {
			return err
		}
		var err error
		b.Credential, err = one(ctx, tx, unbound, scanCredential, credentialRows+`
			join pins p on p.vault_id = c.vault_id join sandboxes s on s.agent_id = p.agent_id
			where c.team_id = $1 and s.id = $2 and c.id = $3 and `+atVersion+` and `+mayUse, teamID, sandboxID, credentialID, version)
		if err != nil {
			return err
		}
		b.Credential.Version = version
		return b.readSecret(ctx, tx, teamID, unbound)
	})
	return b, err
}

// Current is a credential by its name, for an admin, with what opens its secret.
func (s *Store) Current(ctx context.Context, teamID, vault, name string) (Bound, error) {
	var b Bound
	what := fmt.Sprintf("credential %q in vault %q", name, vault)
	err := s.inTx(ctx, readOnly, teamID, func(tx pgx.Tx) (err error) {
		b.Credential, err = one(ctx, tx, what, scanCredential, credentialRows+`where c.team_id = $1 and v.name = $2 and c.name = $3`, teamID, vault, name)
		if err != nil {
			return err
		}
		return b.readSecret(ctx, tx, teamID, what)
	})
	return b, err
}

// readSecret reads the rest of b, whose Credential is known.
func (b *Bound) readSecret(ctx context.Context, tx pgx.Tx, teamID, what string) error {
	if err := b.readSource(ctx, tx, teamID); err != nil {
		return err
	}
	b.Identity.Field = control.FieldSecret
	return interpret(tx.QueryRow(ctx, `
		select c.team_id, c.vault_id, c.id, x.version, k.kek, k.version, k.blob, x.key_version, x.salt, x.commitment, x.ciphertext
		from credentials c
		join credential_versions x on x.credential_id = c.id and x.version = $3
		join vault_keys k on k.vault_id = x.vault_id and k.version = x.key_version
		where c.team_id = $1 and c.id = $2`, teamID, b.Credential.ID, b.Credential.Version).Scan(
		&b.Identity.Team, &b.Identity.Vault, &b.Identity.Credential, &b.Identity.Version,
		&b.Key.KEK, &b.Key.Version, &b.Key.Blob,
		&b.Secret.KeyVersion, &b.Secret.Salt, &b.Secret.Commitment, &b.Secret.Ciphertext), "read the secret", what)
}

// mayUse is the condition on a credential c that the sandbox s, to whose agent its
// vault is pinned, may use it: one that was captured is for the sandbox that did,
// and none is used after its end.
const mayUse = `((c.sandbox_id is null or c.sandbox_id = s.id and c.expires_at > now()) and ` + unexpired + `)`

// boundName is VAULT/NAME of a credential that is bound to a sandbox at a version,
// and stays so until tx ends.
func boundName(ctx context.Context, tx pgx.Tx, teamID, sandboxID, credentialID string, version int64) (string, error) {
	return one(ctx, tx, unbound, pgx.RowTo[string], `
		select v.name || '/' || c.name
		from credentials c join vaults v on v.id = c.vault_id
		join pins p on p.vault_id = c.vault_id join sandboxes s on s.agent_id = p.agent_id
		where c.team_id = $1 and s.id = $2 and c.id = $3 and `+atVersion+` and `+mayUse+`
		for share of c, p`, teamID, sandboxID, credentialID, version)
}

// enrolled gives the agent of an enrolled sandbox; lock is a locking clause.
func enrolled(ctx context.Context, tx pgx.Tx, lock, teamID, sandboxID string) (agent string, err error) {
	agent, err = one(ctx, tx, "such sandbox", pgx.RowTo[string], `
		select a.name from sandboxes s join agents a on a.id = s.agent_id
		where s.team_id = $1 and s.id = $2 and s.state = 'enrolled' `+lock, teamID, sandboxID)
	if control.CodeOf(err) == control.CodeNotFound {
		err = errNotEnrolled
	}
	return agent, err
}

// Grant is a lease to be recorded.
type Grant struct {
	TeamID       string
	SandboxID    string
	CredentialID string
	Version      int64
	Host         string        // as asked
	FreshFor     time.Duration // until the sidecar asks again
	HardFor      time.Duration // until it must stop using it
	NotAfter     time.Time     // neither is later; zero: the material has no end of its own
	Detail       string        // of the event
}

// Lease is a recorded grant. Its times are the database's.
type Lease struct {
	ID         string
	FreshUntil time.Time
	HardExpiry time.Time
}

// Grant records a lease and its audit event in one transaction, after checking
// again what Bound checks; no revocation that has committed is overlooked. Only
// then may material be handed out.
func (s *Store) Grant(ctx context.Context, g Grant) (Lease, error) {
	lease := Lease{ID: NewID()}
	err := s.inTx(ctx, "begin", g.TeamID, func(tx pgx.Tx) error {
		agent, err := enrolled(ctx, tx, "for share of s", g.TeamID, g.SandboxID)
		if err != nil {
			return err
		}
		credential, err := boundName(ctx, tx, g.TeamID, g.SandboxID, g.CredentialID, g.Version)
		if err != nil {
			return err
		}
		if err := approved(ctx, tx, g.SandboxID, g.CredentialID, g.Version); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `delete from leases where sandbox_id = $1 and hard_expiry < now()`, g.SandboxID); err != nil {
			return interpret(err, "delete expired leases", unbound)
		}
		if err := deleteExpired(ctx, tx, g.TeamID); err != nil {
			return err
		}
		err = tx.QueryRow(ctx, `
			insert into leases (id, team_id, sandbox_id, credential_id, version, host, fresh_until, hard_expiry)
			select $1, $2, $3, c.id, $5, $6, least(now() + $7, c.expires_at, c.ends_at, o.ends_at, $9), least(now() + $8, c.expires_at, c.ends_at, o.ends_at, $9)
			from credentials c left join credentials o on o.id = c.origin_id where c.id = $4 returning fresh_until, hard_expiry`,
			lease.ID, g.TeamID, g.SandboxID, g.CredentialID, g.Version, clean(g.Host), g.FreshFor, g.HardFor, orNull(g.NotAfter)).Scan(&lease.FreshUntil, &lease.HardExpiry)
		if err != nil {
			return interpret(err, "record the lease", unbound)
		}
		return appendEvent(ctx, tx, g.TeamID, record{Event: control.Event{
			Kind: kindGrant, Actor: "sandbox:" + g.SandboxID, Agent: agent, Sandbox: g.SandboxID,
			Host: g.Host, Credential: credential, Version: g.Version, Lease: lease.ID, Detail: g.Detail,
		}})
	})
	return lease, err
}

// orNull is t, or null for none.
func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
