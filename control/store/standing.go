package store

import (
	"bytes"
	"context"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

// Use is a credential that a sandbox would use.
type Use struct {
	SandboxID    string
	CredentialID string
	Version      int64
}

// Standing is how a sandbox stands to a Use.
type Standing struct {
	Known    bool     // there is such a sandbox
	Identity Identity // its own
	Bound    Bound    // shared with others: it must not be changed
	Err      error    // why there is no Bound, as Store.Bound says it
}

// Standings is what Identity and Bound say, for many sandboxes of a team at once.
func (s *Store) Standings(ctx context.Context, teamID string, uses []Use) ([]Standing, error) {
	standings := make([]Standing, len(uses))
	for i := range standings {
		standings[i].Err = errNotEnrolled
	}
	wanted := asked(uses)
	var batch pgx.Batch
	s.in(teamID).open(&batch)
	batch.Queue(`
		select g.place, `+identityColumns+`, exists (
			select from credentials c join pins p on p.vault_id = c.vault_id
			where c.team_id = $1 and p.agent_id = s.agent_id and c.id = g.credential and `+atVersion(`g.version`)+` and `+mayUse+`)
		from unnest($2::int[], $3::uuid[], $4::uuid[], $5::bigint[]) as g (place, sandbox, credential, version)
		join sandboxes s on s.id = g.sandbox join agents a on a.id = s.agent_id join teams t on t.id = s.team_id
		where s.team_id = $1`, teamID, wanted.places, wanted.sandboxes, wanted.credentials, wanted.versions).Query(
		func(rows pgx.Rows) error { return scanStandings(rows, standings) })
	bound := readBound(&batch, teamID, distinct(wanted.credentials))
	if err := s.pool.SendBatch(ctx, &batch).Close(); err != nil {
		return nil, interpret(err, "read what sandboxes may use", "such team")
	}
	for n, i := range wanted.places {
		b, found := bound[versionOf{wanted.credentials[n].String(), uses[i].Version}]
		switch {
		case standings[i].Err != nil:
		case !found:
			standings[i].Err = errUnbound
		default:
			standings[i].Bound = b
		}
	}
	return standings, nil
}

// versionOf is a version of a credential.
type versionOf struct {
	credential string
	version    int64
}

// readBound has batch read credentials, each once, with the secrets of those versions
// that may be used. Whatever changes between these statements makes another version of
// a credential, or ends one.
func readBound(batch *pgx.Batch, teamID string, ids []uuid.UUID) map[versionOf]Bound {
	bound := make(map[versionOf]Bound)
	credentials := make(map[string]control.Credential)
	sources := make(map[string]*SealedSource)
	batch.Queue(credentialRows+`where c.team_id = $1 and c.id = any($2)`, teamID, ids).Query(func(rows pgx.Rows) error {
		read, err := pgx.CollectRows(rows, scanCredential)
		for _, c := range read {
			credentials[c.ID] = c
		}
		return err
	})
	batch.Queue(`select c.id::text, `+sourceColumns+sealedColumns+sealedTables+`
		join credentials c on c.source_id = o.id where c.team_id = $1 and c.id = any($2)`, teamID, ids).Query(func(rows pgx.Rows) error {
		return scanSources(rows, sources)
	})
	batch.Queue(secretRows+`where c.team_id = $1 and c.id = any($2) and `+atVersion(`x.version`), teamID, ids).Query(func(rows pgx.Rows) error {
		var b Bound
		_, err := pgx.ForEachRow(rows, b.columns(), func() error {
			id, version := b.Identity.Credential, b.Identity.Version
			b.Identity.Field = control.FieldSecret
			b.Credential, b.Source = credentials[id], sources[id]
			if b.Credential.Has(version) && (b.Credential.From == nil) == (b.Source == nil) {
				b.Credential.Version = version
				bound[versionOf{id, version}] = b
			}
			b = Bound{}
			return nil
		})
		return err
	})
	return bound
}

// askedFor is what Uses ask for, as columns.
type askedFor struct {
	places                 []int32 // among the Uses
	sandboxes, credentials []uuid.UUID
	versions               []int64
}

// asked leaves out those whose sandbox can't be one: what is wrong with one must not
// be the error of all.
func asked(uses []Use) askedFor {
	var a askedFor
	for i, u := range uses {
		sandbox, err := uuid.Parse(u.SandboxID)
		if err != nil {
			continue
		}
		credential, err := uuid.Parse(u.CredentialID)
		if err != nil {
			credential = uuid.Nil // which no credential has
		}
		a.places, a.versions = append(a.places, int32(i)), append(a.versions, u.Version)
		a.sandboxes, a.credentials = append(a.sandboxes, sandbox), append(a.credentials, credential)
	}
	return a
}

func distinct(ids []uuid.UUID) []uuid.UUID {
	sorted := slices.SortedFunc(slices.Values(ids), func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(sorted)
}

// scanStandings reads who asks, with no error left for whom a credential is bound to.
func scanStandings(rows pgx.Rows, standings []Standing) error {
	var place int32
	var id Identity
	var mayUse bool
	_, err := pgx.ForEachRow(rows, append(append([]any{&place}, id.columns()...), &mayUse), func() error {
		standing := &standings[place]
		standing.Known, standing.Identity = true, id
		switch {
		case id.State != control.SandboxEnrolled:
		case mayUse:
			standing.Err = nil
		default:
			standing.Err = errUnbound
		}
		id = Identity{}
		return nil
	})
	return err
}

// scanSources reads the sources by the credentials whose secrets lie in them.
func scanSources(rows pgx.Rows, sources map[string]*SealedSource) error {
	defer rows.Close()
	for rows.Next() {
		var credential string
		var source SealedSource
		if err := source.scan(rows, &credential); err != nil {
			return err
		}
		sources[credential] = &source
	}
	return rows.Err()
}
