package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

// maxCaptured bounds the captured credentials that serve one sandbox.
const maxCaptured = 64

// Capture is what a service has handed out in one answer.
type Capture struct {
	TeamID, SandboxID string
	CredentialID      string // that the request was sent with
	Version           int64
	OriginID          string // the same, or what that was captured with
	VaultID           string
	Host, RequestID   string
	Rule              string
	Secrets           []NewSecret
}

// NewSecret becomes a credential of the origin's vault.
type NewSecret struct {
	Credential control.Credential // its ID is the caller's, since the secret is sealed to it
	Secret     control.SealedSecret
	TTL        time.Duration
}

// errTooMany is said to the agent, by its sidecar.
var errTooMany = control.Errorf(control.CodeConflict, "this sandbox holds %d captured secrets already; they go when they expire, or when an admin removes them", maxCaptured)

// Capture stores secrets for the sandbox that they were handed out to, with the
// event that tells of it. It checks again what Bound checks; no revocation that
// has committed is overlooked.
func (s *Store) Capture(ctx context.Context, c Capture) (revision int64, err error) {
	agent, origin := "", ""
	act := control.Event{Kind: "credential.capture", Actor: "sandbox:" + c.SandboxID, Sandbox: c.SandboxID, RequestID: c.RequestID, Host: c.Host}
	err = s.inTx(ctx, "begin", c.TeamID, func(tx pgx.Tx) error {
		if revision, err = bump(ctx, tx, c.TeamID); err != nil {
			return err
		}
		if agent, err = enrolled(ctx, tx, "for share of s", c.TeamID, c.SandboxID); err != nil {
			return err
		}
		if origin, err = boundName(ctx, tx, c.TeamID, c.SandboxID, c.CredentialID, c.Version); err != nil {
			return err
		}
		if err := c.makeRoom(ctx, tx); err != nil {
			return err
		}
		vault, _, _ := strings.Cut(origin, "/")
		for _, secret := range c.Secrets {
			if err := c.insert(ctx, tx, secret); err != nil {
				return err
			}
			e := act
			e.Agent, e.Credential, e.Version = agent, vault+"/"+secret.Credential.Name, 1
			e.Detail = fmt.Sprintf("from %s for %s, by the rule '%s'", origin, secret.TTL, c.Rule)
			if err := appendEvent(ctx, tx, c.TeamID, record{Event: e}); err != nil {
				return err
			}
		}
		return nil
	})
	return revision, err
}

// makeRoom deletes what has expired and counts what is left.
func (c *Capture) makeRoom(ctx context.Context, tx pgx.Tx) error {
	if err := deleteExpired(ctx, tx, c.TeamID); err != nil {
		return err
	}
	held, err := one(ctx, tx, "such sandbox", pgx.RowTo[int], `select count(*) from credentials where sandbox_id = $1`, c.SandboxID)
	if err == nil && held+len(c.Secrets) > maxCaptured {
		return errTooMany
	}
	return err
}

const deleteExpiredRows = `
	delete from credentials where id in (
		select id from credentials where team_id = $1 and expires_at < now() for update skip locked)`

// deleteExpired deletes the team's captured credentials that have expired, but for
// those that somebody else is at.
func deleteExpired(ctx context.Context, tx pgx.Tx, teamID string) error {
	_, err := tx.Exec(ctx, deleteExpiredRows, teamID)
	return interpret(err, "delete expired credentials", "such team")
}

// insert stores one. What it does not say is as its origin has it.
func (c *Capture) insert(ctx context.Context, tx pgx.Tx, n NewSecret) error {
	made := n.Credential
	hosts, err := normalise(made.Hosts)
	if err != nil {
		return err
	}
	tag, err := tx.Exec(ctx, `
		insert into credentials (id, team_id, vault_id, name, service, allow_http, allow_websocket, auth, username, inject, stray, placeholders, version,
			sandbox_id, origin_id, captured_hosts, expires_at)
		select $1, o.team_id, o.vault_id, $5, o.service, o.allow_http, o.allow_websocket, $6, '', $7, o.stray, $8, 1, $4, o.id, $9, now() + $10
		from credentials o where o.team_id = $2 and o.id = $3`,
		made.ID, c.TeamID, c.OriginID, c.SandboxID, made.Name, made.Auth, texts(made.Inject), made.Placeholders, hosts, n.TTL)
	if err := must(tag, err, fmt.Sprintf("store the captured credential %q", made.Name), unbound); err != nil {
		return err
	}
	return addVersion(ctx, tx, c.TeamID, made.ID, 1, n.Secret)
}

// capturedCredentials are those that a sandbox may use, by vault and name.
func capturedCredentials(ctx context.Context, tx pgx.Tx, teamID, sandboxID string) ([]control.Credential, error) {
	return all(ctx, tx, "the sandbox's credentials", scanCredential, credentialRows+`
		join pins p on p.vault_id = c.vault_id join sandboxes s on s.agent_id = p.agent_id
		where c.team_id = $1 and s.id = $2 and c.sandbox_id = s.id and c.expires_at > now() order by v.name, c.name`, teamID, sandboxID)
}

// deleteCaptured deletes what was captured by a sandbox that has ended.
func deleteCaptured(ctx context.Context, tx pgx.Tx, teamID, sandboxID string) error {
	_, err := tx.Exec(ctx, `delete from credentials where team_id = $1 and sandbox_id = $2`, teamID, sandboxID)
	return interpret(err, "delete what the sandbox captured", "such sandbox")
}
