package store

import (
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestCascadesHaveIndexes: what deletes rows with others finds those by an index of their
// own. One that begins with some columns of the foreign key is not enough: Postgres, while it
// had no statistics, took that of a vault's host patterns to look for one credential's hosts,
// and so read all of the vault's for each of 10,000 credentials.
func TestCascadesHaveIndexes(t *testing.T) {
	alone := map[string]bool{"vaults": true, "agents": true} // are deleted one at a time, so their rows may be read once
	type cascade struct {
		Name, Of string
		Indexes  int  // that begin with one of its columns
		Whole    bool // one begins with all of them
		Sole     bool // all begin with the last, the narrowest
	}
	f := newFixture(t)
	rows := got(f.pool.Query(t.Context(), `
		select format('%s: %s', conrelid::regclass, pg_get_constraintdef(c.oid)), confrelid::regclass::text,
			count(begins), coalesce(bool_or(begins @> conkey), false), coalesce(bool_and(begins[1] = conkey[cardinality(conkey)]), false)
		from pg_constraint c left join lateral (
			select (indkey::int2[])[0:cardinality(conkey) - 1] as begins from pg_index
			where indrelid = conrelid and indkey[0] = any(conkey) and (indpred is null or pg_get_expr(indpred, indrelid) like '(% IS NOT NULL)')
		) i on true
		where contype = 'f' and confdeltype = 'c' group by c.oid, conrelid, confrelid, conkey`))(t)
	cascades := got(pgx.CollectRows(rows, pgx.RowToStructByPos[cascade]))(t)
	if len(cascades) == 0 {
		t.Error("nothing cascades")
	}
	for _, c := range cascades {
		if c.Indexes == 0 || !c.Whole && !c.Sole && !alone[c.Of] {
			t.Errorf("%s has no index of its own", c.Name)
		}
	}
}
