package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

const (
	// maxPending bounds the questions of one sandbox that wait for a person.
	maxPending = 16
	// firstLasts is how long an approval of a sandbox's use holds, eachLasts that of
	// one request, whose sidecar is waiting for it.
	firstLasts = 24 * time.Hour
	eachLasts  = time.Minute
	// denialLasts keeps an agent from asking the same again and again.
	denialLasts = 30 * time.Second
	// approvalsKept is how long a question is kept; the audit log has it for good.
	approvalsKept = 24 * time.Hour
)

// Question is a request that a sidecar asks about.
type Question struct {
	TeamID, SandboxID, CredentialID string
	Version                         int64
	Host                            string
	Port                            int
	Method, Path                    string
	Request                         string // the sidecar's name for it
}

// Answer is what a sidecar is told.
type Answer struct {
	State control.ApprovalState
	Busy  bool          // too many of the sandbox's wait
	Lasts time.Duration // until the approval, or without one the question, ends
}

// state is an approval's as it is now.
const state = `case when a.state in ('pending', 'approved') and a.expires_at <= now() then 'expired' else a.state end`

const approvalRows = `
	select a.id, ` + state + `, a.scope, v.name || '/' || c.name, a.version, g.name, a.sandbox_id, a.host, a.port, a.method, a.path,
		a.created_at, a.expires_at, a.decided_at, a.decided_by
	from approvals a join credentials c on c.id = a.credential_id join vaults v on v.id = c.vault_id
	join sandboxes s on s.id = a.sandbox_id join agents g on g.id = s.agent_id `

// AskApproval gives the answer to a question, which is pending when it is new. It
// checks again what Bound checks.
func (s *Store) AskApproval(ctx context.Context, q Question) (Answer, error) {
	var answer Answer
	q.Host, q.Method, q.Path = clean(q.Host), clean(q.Method), clean(q.Path)
	err := s.inTx(ctx, "begin", q.TeamID, func(tx pgx.Tx) error {
		// Questions of one sandbox come one after another, so that they can be counted.
		agent, err := enrolled(ctx, tx, "for no key update of s", q.TeamID, q.SandboxID)
		if err != nil {
			return err
		}
		name, err := boundName(ctx, tx, q.TeamID, q.SandboxID, q.CredentialID, q.Version)
		if err != nil {
			return err
		}
		c, err := one(ctx, tx, unbound, scanCredential, credentialRows+`where c.team_id = $1 and c.id = $2`, q.TeamID, q.CredentialID)
		if err != nil {
			return err
		}
		if c.Limits.Approve == control.ApproveNone { // any more; the sidecar will hear of it
			answer = Answer{State: control.ApprovalApproved, Lasts: eachLasts}
			return nil
		}
		known, err := q.find(ctx, tx, c.Limits.Approve, &answer)
		if known || err != nil {
			return err
		}
		if answer.Busy, err = one(ctx, tx, "such sandbox", pgx.RowTo[bool], `
			select count(*) >= $2 from approvals where sandbox_id = $1 and state = 'pending' and expires_at > now()`, q.SandboxID, maxPending); answer.Busy || err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `delete from approvals where sandbox_id = $1 and created_at < now() - $2::interval and expires_at < now()`, q.SandboxID, approvalsKept); err != nil {
			return interpret(err, "delete old questions", unbound)
		}
		answer = Answer{State: control.ApprovalPending, Lasts: time.Duration(c.Limits.ApproveTimeout)}
		_, err = tx.Exec(ctx, `
			insert into approvals (id, team_id, credential_id, version, sandbox_id, request, scope, host, port, method, path, expires_at)
			values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, now() + $12)`,
			NewID(), q.TeamID, q.CredentialID, q.Version, q.SandboxID, q.Request, c.Limits.Approve, q.Host, q.Port, q.Method, q.Path, answer.Lasts)
		if err != nil {
			return interpret(err, "ask for approval", unbound)
		}
		return appendEvent(ctx, tx, q.TeamID, record{Event: control.Event{
			Kind: "approval.ask", Actor: "sandbox:" + q.SandboxID, Agent: agent, Sandbox: q.SandboxID, Credential: name, Version: q.Version,
			Host: q.Host, Port: q.Port, Method: q.Method, Path: q.Path, Detail: string(c.Limits.Approve),
		}})
	})
	return answer, err
}

// find looks for an answer: that of the question itself, for a sandbox's use that
// of an earlier one, or the denial of the same a moment ago.
func (q Question) find(ctx context.Context, tx pgx.Tx, scope control.Approve, answer *Answer) (known bool, err error) {
	rows, err := all(ctx, tx, "the question", pgx.RowToStructByPos[struct {
		State control.ApprovalState
		Lasts time.Duration
	}], `
		select `+state+`, greatest(a.expires_at - now(), interval '0')
		from approvals a where a.sandbox_id = $1 and a.credential_id = $2 and a.version = $3 and a.scope = $4
		and (a.request = $5 and ($4 = 'first' or a.host = $6 and a.port = $7 and a.method = $8 and a.path = $9)
			or $4 = 'first' and a.state = 'approved' and a.expires_at > now()
			or a.state = 'denied' and a.decided_at > now() - $10::interval and ($4 = 'first' or a.host = $6 and a.method = $8 and a.path = $9))
		order by a.state = 'approved' and a.expires_at > now() desc, a.request = $5 desc, a.created_at desc limit 1`,
		q.SandboxID, q.CredentialID, q.Version, scope, q.Request, q.Host, q.Port, q.Method, q.Path, denialLasts)
	if err != nil || len(rows) == 0 {
		return false, err
	}
	answer.State, answer.Lasts = rows[0].State, rows[0].Lasts
	return true, nil
}

// WithdrawApproval ends a question that nobody waits for any more.
func (s *Store) WithdrawApproval(ctx context.Context, teamID, sandboxID, request string) error {
	_, err := s.in(teamID).Exec(ctx, `
		update approvals set state = 'withdrawn', decided_at = now()
		where team_id = $1 and sandbox_id = $2 and request = $3 and state = 'pending'`, teamID, sandboxID, request)
	return interpret(err, "withdraw the question", "such question")
}

// Approval gives one of the team's questions.
func (s *Store) Approval(ctx context.Context, teamID, id string) (control.Approval, error) {
	return one(ctx, s.in(teamID), "such approval", pgx.RowToStructByPos[control.Approval], approvalRows+`where a.team_id = $1 and a.id = $2`, teamID, id)
}

// Approvals lists those that wait for a person, the oldest first, or all that are kept.
func (s *Store) Approvals(ctx context.Context, teamID string, pending bool, page Page) (approvals []control.Approval, next string, err error) {
	approvals, err = all(ctx, s.in(teamID), "approvals", pgx.RowToStructByPos[control.Approval], approvalRows+`
		where a.team_id = $1 and (not $2 or a.state = 'pending' and a.expires_at > now()) and a.id::text > $3
		order by a.id limit $4`, teamID, pending, page.After, page.limit())
	approvals, next = cut(page, approvals, func(a control.Approval) string { return a.ID })
	return approvals, next, err
}

// DecideApproval decides a question for good, whoever else does so at the same time.
// It is CodeConflict if somebody has, if nobody waits for it, if the credential is
// not the one that was shown any more, or if tag is not that of what was shown.
func (s *Store) DecideApproval(ctx context.Context, teamID, id, tag string, approve bool, by string, act control.Event) (decided control.Approval, err error) {
	err = s.inTx(ctx, "begin", teamID, func(tx pgx.Tx) error {
		const what = "such approval"
		if _, err := one(ctx, tx, what, pgx.RowTo[string], `select id from approvals where team_id = $1 and id = $2 for update`, teamID, id); err != nil {
			return err
		}
		shown, err := one(ctx, tx, what, pgx.RowToStructByPos[control.Approval], approvalRows+`where a.team_id = $1 and a.id = $2`, teamID, id)
		if err != nil {
			return err
		}
		if err := decidable(ctx, tx, shown, tag); err != nil {
			return err
		}
		lasts, state, kind := eachLasts, control.ApprovalDenied, "approval.deny"
		if shown.Scope == control.ApproveFirst {
			lasts = firstLasts
		}
		if approve {
			state, kind = control.ApprovalApproved, "approval.approve"
		}
		if _, err := tx.Exec(ctx, `
			update approvals set state = $3, decided_at = now(), decided_by = $4, expires_at = case when $3 = 'approved' then now() + $5 else expires_at end
			where team_id = $1 and id = $2`, teamID, id, state, by, lasts); err != nil {
			return interpret(err, "decide", what)
		}
		if _, err := tx.Exec(ctx, `select pg_notify('`+decisions+`', $1)`, shown.Sandbox); err != nil {
			return interpret(err, "tell of the decision", what)
		}
		if decided, err = one(ctx, tx, what, pgx.RowToStructByPos[control.Approval], approvalRows+`where a.team_id = $1 and a.id = $2`, teamID, id); err != nil {
			return err
		}
		act.Kind, act.Agent, act.Sandbox, act.Credential, act.Version = kind, shown.Agent, shown.Sandbox, shown.Credential, shown.Version
		act.Host, act.Port, act.Method, act.Path, act.Detail = shown.Host, shown.Port, shown.Method, shown.Path, string(shown.Scope)
		return appendEvent(ctx, tx, teamID, record{Event: act})
	})
	return decided, err
}

// decidable reports why a question can't be decided as it was shown, if it can't.
func decidable(ctx context.Context, tx pgx.Tx, shown control.Approval, tag string) error {
	switch {
	case shown.State == control.ApprovalPending && tag != shown.Tag():
		return control.Errorf(control.CodeChanged, "what is asked is not what the If-Match is of: look at it again")
	case shown.State == control.ApprovalWithdrawn:
		return control.Errorf(control.CodeConflict, "the client has gone; nobody waits for it any more")
	case shown.State == control.ApprovalExpired:
		return control.Errorf(control.CodeConflict, "it was not decided in time")
	case shown.State != control.ApprovalPending:
		return control.Errorf(control.CodeConflict, "it was %s already, by %s", shown.State, shown.DecidedBy)
	}
	current, err := one(ctx, tx, "such approval", pgx.RowTo[bool], `
		select c.version = a.version and s.state = 'enrolled' and `+mayUse+`
		from approvals a join credentials c on c.id = a.credential_id join sandboxes s on s.id = a.sandbox_id
		join pins p on p.vault_id = c.vault_id and p.agent_id = s.agent_id where a.id = $1`, shown.ID)
	if control.CodeOf(err) == control.CodeNotFound || err == nil && !current {
		return control.Errorf(control.CodeConflict, "the credential was rotated, has expired or is not the sandbox's any more: it will ask again, if it may")
	}
	return err
}

// unapproved gives those places of Uses that need an approval and have none.
const unapproved = `
	select g.place from unnest($1::int[], $2::uuid[], $3::uuid[], $4::bigint[]) as g (place, sandbox, credential, version)
	join credentials c on c.id = g.credential left join credentials o on o.id = c.origin_id
	where coalesce(coalesce(o.limits, c.limits)->>'approve', '') <> '' and not exists (
		select from approvals a where a.sandbox_id = g.sandbox and a.credential_id = c.id and a.version in (g.version, c.version)
		and a.state = 'approved' and (a.expires_at > now() or a.decided_at > now() - $5::interval))`

var errUnapproved = control.Errorf(control.CodeConflict, "nobody has approved that this sandbox uses the credential")
