package store

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

// verifyBatch is how many events one call of Verify reads.
const verifyBatch = 100_000

// Verification is what was found of a team's chain of events.
type Verification struct {
	Events int64  `json:"events"`           // read by this call
	Start  string `json:"start,omitempty"`  // POSITION:HASH of the last event that retention took, if it took any
	Head   string `json:"head"`             // POSITION:HASH of the last event read
	Next   bool   `json:"next"`             // there are more: call again after Head
	Broken string `json:"broken,omitempty"` // what is wrong, at the first event where something is
	Kept   bool   `json:"kept"`             // the head that the caller kept was among them
}

// link is a place in a chain.
type link struct {
	position int64
	hash     []byte
}

func (l link) String() string { return fmt.Sprintf("%d:%x", l.position, l.hash) }

func parseLink(s string) (link, error) {
	position, hash, _ := strings.Cut(s, ":")
	n, err := strconv.ParseInt(position, 10, 64)
	sum, decoded := hex.DecodeString(hash)
	if err != nil || n < 0 || decoded != nil || len(sum) != 32 {
		return link{}, control.Errorf(control.CodeInvalid, "%q is not a place in the chain, such as 12:HASH with 64 hexadecimal digits", s)
	}
	return link{n, sum}, nil
}

// retained is the kind of an event that says from where on a chain is kept.
const retained = "audit.retention"

// Verify reads a team's events after a place, "" for the first that is kept, as
// they were written one after another. kept is the hash of a head that the caller
// has from before, "" for none. teamID "" is the installation itself.
func (s *Store) Verify(ctx context.Context, teamID, after string, kept []byte) (Verification, error) {
	var v Verification
	done, err := s.read(ctx)
	if err != nil {
		return v, err
	}
	defer done()
	err = s.inTx(ctx, readOnly, orInstallation(teamID), func(tx pgx.Tx) error {
		c, err := newChain(ctx, tx, orInstallation(teamID))
		if err != nil {
			return err
		}
		last := c.start
		if after != "" {
			if last, err = parseLink(after); err != nil {
				return err
			}
		} else if c.start.position > 0 {
			v.Start = c.start.String()
			if v.Broken, err = c.uncertain(ctx, tx); err != nil || v.Broken != "" {
				return err
			}
		}
		v.Kept = kept != nil && bytes.Equal(last.hash, kept)
		return c.read(ctx, tx, last, kept, &v)
	})
	return v, err
}

// read waits for a turn to read much of a chain; done ends it.
func (s *Store) read(ctx context.Context) (done func(), err error) {
	select {
	case s.reading <- struct{}{}:
		return func() { <-s.reading }, nil
	case <-ctx.Done():
		return nil, control.Errorf(control.CodeUnavailable, "too many others read much of the audit: try again")
	}
}

// chain is a team's, between its checkpoint and its head.
type chain struct {
	start link
	end   tip
}

func newChain(ctx context.Context, tx pgx.Tx, teamID string) (*chain, error) {
	end, err := one(ctx, tx, "such team", pgx.RowToStructByPos[tip],
		`select team_id, position, hash, now() from audit_heads where team_id = $1`, teamID)
	if err != nil {
		return nil, err
	}
	c := &chain{start: link{hash: make([]byte, 32)}, end: end}
	rows, err := tx.Query(ctx, `select position, hash from audit_checkpoints where team_id = $1 order by position desc limit 1`, teamID)
	if err != nil {
		return nil, interpret(err, "read the chain's start", "such team")
	}
	_, err = pgx.ForEachRow(rows, []any{&c.start.position, &c.start.hash}, func() error { return nil })
	return c, interpret(err, "read the chain's start", "such team")
}

// uncertain says why the start is not to be believed: no event of the chain has it.
func (c *chain) uncertain(ctx context.Context, tx pgx.Tx) (string, error) {
	said, err := one(ctx, tx, "such event", pgx.RowTo[bool],
		`select exists (select from audit_log where team_id = $1 and kind = $2 and detail = $3 and position > $4)`,
		c.end.TeamID, retained, c.start.String(), c.start.position)
	if err != nil || said {
		return "", err
	}
	return fmt.Sprintf("the audit chain is broken at its start: no event tells that those up to %d were removed for their age", c.start.position), nil
}

// read follows the chain from last on.
func (c *chain) read(ctx context.Context, tx pgx.Tx, last link, kept []byte, v *Verification) error {
	rows, err := tx.Query(ctx, eventRows+`where team_id = $1 and position > $2 order by position limit $3`, c.end.TeamID, last.position, verifyBatch)
	if err != nil {
		return interpret(err, "read events", "such team")
	}
	defer rows.Close()
	var digest digester
	for v.Broken == "" && rows.Next() {
		r, err := scanRecord(rows)
		if err != nil {
			return interpret(err, "read events", "such team")
		}
		if !r.follows(record{Event: control.Event{ID: last.position}, Hash: last.hash}, &digest) {
			v.Broken = fmt.Sprintf("the audit chain is broken at event %d: it, or an event before it, was changed, removed or moved", last.position+1)
			break
		}
		last = link{r.ID, r.Hash}
		v.Events++
		v.Kept = v.Kept || kept != nil && bytes.Equal(r.Hash, kept)
	}
	if err := rows.Err(); err != nil {
		return interpret(err, "read events", "such team")
	}
	v.Head = last.String()
	v.Next = v.Broken == "" && v.Events == verifyBatch
	if v.Broken == "" && !v.Next && (last.position != c.end.Position || !bytes.Equal(last.hash, c.end.Hash)) {
		v.Broken = fmt.Sprintf("the audit chain is broken after event %d: it should reach event %d", last.position, c.end.Position)
	}
	return nil
}

// VerifyChain verifies all of a team's chain; its error says what is wrong with it.
func (s *Store) VerifyChain(ctx context.Context, teamID string) error {
	for after := ""; ; {
		v, err := s.Verify(ctx, teamID, after, nil)
		switch {
		case err != nil:
			return err
		case v.Broken != "":
			return fmt.Errorf("%s", v.Broken)
		case !v.Next:
			return nil
		}
		after = v.Head
	}
}
