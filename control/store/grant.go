package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
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

var errUnbound = control.Errorf(control.CodeNotFound, "there is no %s", unbound)

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
			where c.team_id = $1 and s.id = $2 and c.id = $3 and `+atVersion(`$4`)+` and `+mayUse, teamID, sandboxID, credentialID, version)
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
	return interpret(tx.QueryRow(ctx, secretRows+`where c.team_id = $1 and c.id = $2 and x.version = $3`, teamID, b.Credential.ID, b.Credential.Version).Scan(b.columns()...), "read the secret", what)
}

// secretRows is read into columns.
const secretRows = `
	select c.team_id, c.vault_id, c.id, x.version, k.kek, k.version, k.blob, x.key_version, x.salt, x.commitment, x.ciphertext
	from credentials c
	join credential_versions x on x.credential_id = c.id
	join vault_keys k on k.vault_id = x.vault_id and k.version = x.key_version `

func (b *Bound) columns() []any {
	return []any{
		&b.Identity.Team, &b.Identity.Vault, &b.Identity.Credential, &b.Identity.Version,
		&b.Key.KEK, &b.Key.Version, &b.Key.Blob,
		&b.Secret.KeyVersion, &b.Secret.Salt, &b.Secret.Commitment, &b.Secret.Ciphertext,
	}
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
		where c.team_id = $1 and s.id = $2 and c.id = $3 and `+atVersion(`$4`)+` and `+mayUse+`
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
	Lasts        time.Duration // of the material, which neither outlives; zero: it has no end of its own
	Detail       string        // of the event
}

// Lease is a recorded grant. Its times are the database's, whose clock may be wrong: they
// say something beside each other only.
type Lease struct {
	ID         string
	Granted    time.Time
	FreshUntil time.Time
	HardExpiry time.Time
}

// Granted is a lease, or why there is none.
type Granted struct {
	Lease
	Err error
}

// Grant records a lease and its audit event in one transaction, after checking
// again what Bound checks; no revocation that has committed is overlooked. Only
// then may material be handed out.
func (s *Store) Grant(ctx context.Context, g Grant) (Lease, error) {
	granted, err := s.Grants(ctx, g.TeamID, []Grant{g})
	if err != nil {
		return Lease{}, err
	}
	return granted[0].Lease, granted[0].Err
}

// Grants is Grant for many of a team: in one transaction, each with its own event. A
// grant that is refused keeps no other from being recorded.
func (s *Store) Grants(ctx context.Context, teamID string, grants []Grant) ([]Granted, error) {
	granted := make([]Granted, len(grants))
	err := s.inTx(ctx, "begin", teamID, func(tx pgx.Tx) error {
		holders, err := checkGrants(ctx, tx, teamID, grants, granted)
		if err != nil {
			return err
		}
		if len(holders) == 0 {
			return nil
		}
		// Others lock the head last; here only what is ours already is locked after it.
		h, err := lockHead(ctx, tx, teamID)
		if err != nil {
			return err
		}
		events := h.admit(grants, granted, holders)
		if len(events) == 0 {
			return nil
		}
		if err := recordLeases(ctx, tx, teamID, grants, granted); err != nil {
			return err
		}
		return h.append(ctx, tx, events)
	})
	return granted, err
}

// admit gives each grant that the team has room for the ID of its lease, and the event
// of it; it says of the others that there is none.
func (h head) admit(grants []Grant, granted []Granted, holders map[int]holder) []record {
	var places []int
	var events []record
	for i, g := range grants {
		if holder, found := holders[i]; found {
			granted[i].ID = NewID()
			places = append(places, i)
			events = append(events, record{Event: control.Event{
				Kind: kindGrant, Actor: "sandbox:" + g.SandboxID, Agent: holder.agent, Sandbox: g.SandboxID,
				Host: g.Host, Credential: holder.credential, Version: g.Version, Lease: granted[i].ID, Detail: g.Detail,
			}})
		}
	}
	n, err := h.fit(events)
	for _, i := range places[n:] {
		granted[i] = Granted{Err: err}
	}
	return events[:n]
}

// holder is whom something is granted to.
type holder struct{ agent, credential string }

// checkGrants gives by their places those grants that may be, which stay so until tx
// ends, and says of the others why not. It deletes what has expired on the way.
func checkGrants(ctx context.Context, tx pgx.Tx, teamID string, grants []Grant, granted []Granted) (map[int]holder, error) {
	uses := make([]Use, len(grants))
	for i, g := range grants {
		uses[i], granted[i].Err = Use{g.SandboxID, g.CredentialID, g.Version}, errNotEnrolled
	}
	wanted := asked(uses)
	sandboxes := distinct(wanted.sandboxes)
	var batch pgx.Batch
	agents := lockEnrolled(&batch, teamID, sandboxes)
	credentials := lockBound(&batch, teamID, wanted)
	batch.Queue(unapproved, wanted.places, wanted.sandboxes, wanted.credentials, wanted.versions, firstLasts).Query(
		func(rows pgx.Rows) error {
			places, err := pgx.CollectRows(rows, pgx.RowTo[int32])
			for _, place := range places {
				granted[place].Err = errUnapproved
			}
			return err
		})
	batch.Queue(`delete from leases where sandbox_id = any($1) and hard_expiry < now()`, sandboxes)
	batch.Queue(deleteExpiredRows, teamID)
	if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
		return nil, interpret(err, "check what sandboxes may use", unbound)
	}
	holders := make(map[int]holder)
	for n, place := range wanted.places {
		agent, enrolled := agents[wanted.sandboxes[n]]
		credential, bound := credentials[place]
		switch i := int(place); {
		case !enrolled:
			granted[i].Err = errNotEnrolled
		case !bound:
			granted[i].Err = errUnbound
		case granted[i].Err != errUnapproved:
			granted[i].Err = nil
			holders[i] = holder{agent, credential}
		}
	}
	return holders, nil
}

// lockEnrolled has batch lock those sandboxes that are enrolled, in one order, as
// others do that concern many. It gives the names of their agents.
func lockEnrolled(batch *pgx.Batch, teamID string, sandboxes []uuid.UUID) map[uuid.UUID]string {
	agents := make(map[uuid.UUID]string)
	batch.Queue(`
		select s.id, a.name from sandboxes s join agents a on a.id = s.agent_id
		where s.team_id = $1 and s.id = any($2) and s.state = 'enrolled' order by s.id for share of s`, teamID, sandboxes).Query(
		func(rows pgx.Rows) error {
			var sandbox uuid.UUID
			var agent string
			_, err := pgx.ForEachRow(rows, []any{&sandbox, &agent}, func() error {
				agents[sandbox] = agent
				return nil
			})
			return err
		})
	return agents
}

// lockBound is boundName of many, by their places.
func lockBound(batch *pgx.Batch, teamID string, wanted askedFor) map[int32]string {
	credentials := make(map[int32]string)
	batch.Queue(`
		select g.place, v.name || '/' || c.name
		from unnest($2::int[], $3::uuid[], $4::uuid[], $5::bigint[]) as g (place, sandbox, credential, version)
		join sandboxes s on s.id = g.sandbox join credentials c on c.id = g.credential and `+atVersion(`g.version`)+`
		join vaults v on v.id = c.vault_id join pins p on p.vault_id = c.vault_id and p.agent_id = s.agent_id
		where c.team_id = $1 and `+mayUse+` order by c.id, p.agent_id for share of c, p`,
		teamID, wanted.places, wanted.sandboxes, wanted.credentials, wanted.versions).Query(
		func(rows pgx.Rows) error {
			var place int32
			var credential string
			_, err := pgx.ForEachRow(rows, []any{&place, &credential}, func() error {
				credentials[place] = credential
				return nil
			})
			return err
		})
	return credentials
}

// recordLeases stores the leases of the grants that have no error.
func recordLeases(ctx context.Context, tx pgx.Tx, teamID string, grants []Grant, granted []Granted) error {
	byID := make(map[string]*Granted)
	var ids, sandboxes, credentials, hosts []string
	var versions []int64
	var fresh, hard []time.Duration
	var lasts []*time.Duration
	for i, g := range grants {
		if granted[i].Err != nil {
			continue
		}
		byID[granted[i].ID] = &granted[i]
		ids, sandboxes, credentials = append(ids, granted[i].ID), append(sandboxes, g.SandboxID), append(credentials, g.CredentialID)
		hosts, versions = append(hosts, clean(g.Host)), append(versions, g.Version)
		fresh, hard, lasts = append(fresh, g.FreshFor), append(hard, g.HardFor), append(lasts, orNone(g.Lasts))
	}
	rows, err := tx.Query(ctx, `
		insert into leases (id, team_id, sandbox_id, credential_id, version, host, fresh_until, hard_expiry)
		select g.id, $1, g.sandbox, c.id, g.version, g.host,
			least(now() + g.fresh, x.ends), least(now() + g.hard, x.ends)
		from unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::bigint[], $6::text[], $7::interval[], $8::interval[], $9::interval[])
			as g (id, sandbox, credential, version, host, fresh, hard, lasts)
		join credentials c on c.id = g.credential left join credentials o on o.id = c.origin_id,
		least(c.expires_at, c.ends_at, o.ends_at, now() + g.lasts, case when c.version <> g.version then c.overlap_until end) as x (ends)
		returning id::text, now(), fresh_until, hard_expiry`, teamID, ids, sandboxes, credentials, versions, hosts, fresh, hard, lasts)
	if err != nil {
		return interpret(err, "record the leases", unbound)
	}
	var lease Lease
	recorded, err := pgx.ForEachRow(rows, []any{&lease.ID, &lease.Granted, &lease.FreshUntil, &lease.HardExpiry}, func() error {
		byID[lease.ID].Lease = lease
		return nil
	})
	if err == nil && recorded.RowsAffected() != int64(len(ids)) {
		err = pgx.ErrNoRows
	}
	return interpret(err, "record the leases", unbound)
}

// orNone is d, or null for zero.
func orNone(d time.Duration) *time.Duration {
	if d == 0 {
		return nil
	}
	return &d
}

// orNull is t, or null for none.
func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
