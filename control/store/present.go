package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

// Present is how a credential is at this moment, for whoever asks what would become of
// a request of an agent.
type Present struct {
	Spent        int64             // of the budget, in its period
	Rate, Budget control.Allotment // what a sandbox would be given that asks for one request
	Waiting      int               // requests of the agent that wait for a person
	Captured     int               // secrets of the agent's sandboxes that came of it
	NoRoom       error             // why the team has no room for a fetch of it; nil: it has
}

// Present gives how c is, and takes nothing of it.
func (s *Store) Present(ctx context.Context, teamID, agent string, c control.Credential) (Present, error) {
	var p Present
	var u control.Usage
	var now time.Time
	err := s.inTx(ctx, readOnly, teamID, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `
			select coalesce(u.began_at, '0001-01-01Z'), coalesce(u.spent, 0), coalesce(u.rate, 0), coalesce(u.tokens, 0), coalesce(u.filled_at, '0001-01-01Z'), clock_timestamp(),
				(select count(*) from approvals q join sandboxes s on s.id = q.sandbox_id join agents a on a.id = s.agent_id
					where q.credential_id = c.id and a.name = $3 and q.state = 'pending' and q.expires_at > now()),
				(select count(*) from credentials m join sandboxes s on s.id = m.sandbox_id join agents a on a.id = s.agent_id
					where m.origin_id = c.id and a.name = $3 and m.expires_at > now())
			from credentials c left join credential_usage u on u.credential_id = c.id where c.team_id = $1 and c.id = $2`, teamID, c.ID, agent).
			Scan(&u.Begin, &u.Spent, &u.Rate, &u.Tokens, &u.FilledAt, &now, &p.Waiting, &p.Captured)
		if err != nil {
			return interpret(err, "read how the credential is", "such credential")
		}
		h, err := one(ctx, tx, "such team", scanHead, headRows, teamID, control.UsualQuota.Events, control.UsualQuota.Fetches)
		if err != nil {
			return err
		}
		p.NoRoom = h.room([]record{{Event: control.Event{Kind: kindGrant}}})
		return nil
	})
	p.Spent = u.SpentAt(c.Limits.Budget, now)
	p.Rate, p.Budget = u.Allot(c.Limits, control.Ask{Rate: 1, Budget: 1}, now) // of a copy
	return p, err
}
