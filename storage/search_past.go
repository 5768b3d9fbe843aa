package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/fhir"
	"kiln/fhir/search"
)

// MaxChangedWhilePaging is how many resources, of those that a search looks at, may have changed since its first page.
const MaxChangedWhilePaging = 2000

// Paging shows what there was at the first page, each match once, whatever others write meanwhile (docs/adr/0015). The
// first page's snapshot travels in the paging links. A later page asks which of the resources that its search looks
// at have changed since: none, nearly always, and then the page is right as it is. Otherwise those resources are taken
// out of the tables of the index, for this statement, and put back as they were.

// past is the state of the database that the first page of a search saw, compared with what the statements of a later
// page see.
type past struct {
	// mark is SearchMark.Snapshot, snapshot and own are its parts; types are what the search looks at.
	mark, snapshot, own string
	types               []int16
	// inner are those of types that conditions on other resources look at.
	inner []int16
	// sorted says that the search has an order of its own, which may be that of contents.
	sorted bool
	// versions is how many versions are later, of the resources in changed; before are those that were there and still are, or
	// that conditions on other resources look at, with their rows in the tables of the index, as JSON. All are zero where nothing is known to have changed.
	versions int64
	changed  []int64
	before   []string
	// gone are those of changed that are deleted, which are no matches any more.
	gone []int64
	// keys are those of changed, and of what is and was inside of them.
	keys []int64
	// elsewhere says that some of them are looked at by conditions on other resources than those that the search returns.
	elsewhere bool
}

// errChanged says that more has changed than the statement knew.
var errChanged = errors.New("storage: resources have changed since the first page")

// sqlPresent is the snapshot of a statement, and its transaction where that has written.
const sqlPresent = `(SELECT concat(pg_current_snapshot()::text, '/', pg_current_xact_id_if_assigned()::text))`

const sqlLater = `FROM resource_later c WHERE c.type = ANY($1::smallint[]) AND c.version > 1
  AND c.xid >= pg_snapshot_xmin($2::text::pg_snapshot) AND NOT pg_visible_in_snapshot(c.xid, $2::text::pg_snapshot)
  AND c.xid <> $3::text::xid8 AND NOT c.restored`

const sqlLaterThanKnown = `SELECT count(*) FROM (SELECT ` + sqlLater + ` LIMIT $4) y`

// sqlBefore are the resources that have changed, each with the version that the first page saw, where there was one and
// the resource is still there, or conditions on other resources may look at it: of types $5.
const sqlBefore = `
WITH l AS MATERIALIZED (SELECT c.type, c.rk, min(c.version) AS version, count(*) AS changes ` + sqlLater + ` GROUP BY c.type, c.rk LIMIT $4)
SELECT l.type, l.rk, l.changes, h.last_updated, h.content, h.literal, h.compartments, h.labels,
  EXISTS (SELECT FROM resource r WHERE r.rk = l.rk AND r.content IS NULL)
FROM l LEFT JOIN LATERAL (
  SELECT h.* FROM resource_history h WHERE h.rk = l.rk AND h.version = l.version - 1 AND h.content IS NOT NULL
    AND EXISTS (SELECT FROM resource r WHERE r.rk = l.rk AND (r.content IS NOT NULL OR l.type = ANY($5::smallint[])))
    AND (h.version > 1 OR EXISTS (SELECT FROM resource_later c
      WHERE c.type = l.type AND c.last_updated = h.last_updated AND c.rk = l.rk AND c.version = 1
      AND (c.restored OR c.xid = $3::text::xid8 OR pg_visible_in_snapshot(c.xid, $2::text::pg_snapshot))))) h ON true`

const sqlInside = `SELECT rk FROM search_contained WHERE container = ANY($1)`

// sqlRestored notes that the database was restored into another cluster: its rows carry transactions that are yet to come
// here. See restored_seq in migrations/0052_page_snapshot.sql.
const sqlRestored = `
UPDATE instance SET restored_seq = (SELECT max(seq) FROM resource_change)
WHERE EXISTS (SELECT FROM (SELECT xid FROM resource_change ORDER BY seq DESC LIMIT 1000) c WHERE c.xid >= pg_snapshot_xmax(pg_current_snapshot()))`

func (s *Store) noticeRestore(ctx context.Context) error {
	if s.options.ReadOnly {
		return nil // the server that writes has seen to it
	}
	if _, err := s.pool.Exec(ctx, sqlRestored); err != nil {
		return fmt.Errorf("storage: look for a restore: %w", err)
	}
	return nil
}

// pastOf is the state that a mark belongs to; nil for the first page.
func (s *Store) pastOf(q *search.Query, mark *SearchMark) *past {
	if mark == nil || mark.Snapshot == "" {
		return nil
	}
	p := &past{mark: mark.Snapshot, sorted: len(q.Sort) > 0}
	if p.snapshot, p.own, _ = strings.Cut(mark.Snapshot, "/"); p.own == "" {
		p.own = "0" // no transaction has it
	}
	types := q.Types
	if types == nil || q.Contained != "" { // any may have one inside
		types = s.Registry().Schema().Resources
	}
	var inner []string
	for _, e := range q.Where {
		inner = lookedAt(e, inner)
	}
	p.inner = s.numbers(inner)
	p.types = s.numbers(append(inner, types...))
	return p
}

// numbers are those of some types, each once.
func (s *Store) numbers(types []string) (list []int16) {
	for _, t := range types {
		list = append(list, s.Registry().TypeNumber(t))
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// lookedAt adds the types of other resources that a condition is about.
func lookedAt(e search.Expr, types []string) []string {
	switch e := e.(type) {
	case search.And:
		for _, one := range e {
			types = lookedAt(one, types)
		}
	case search.Or:
		for _, one := range e {
			types = lookedAt(one, types)
		}
	case search.Not:
		return lookedAt(e.Expr, types)
	case *search.Match:
		if e.Param.Kind == search.Reference && (e.Modifier == "above" || e.Modifier == "below") { // see compile_hierarchy.go
			return append(types, e.Param.Targets...)
		}
	case *search.Chain:
		return lookedAt(e.Where, append(types, e.Target))
	case *search.Has:
		return lookedAt(e.Where, append(types, e.Type))
	}
	return types
}

// check fails with errChanged, in the same round trip, where more has changed than p knows. Asked behind a statement
// it holds for that statement, since later versions only become more.
func (p *past) check(batch *pgx.Batch) {
	batch.Queue(sqlLaterThanKnown, p.types, p.snapshot, p.own, p.versions+1).QueryRow(func(row pgx.Row) error {
		var n int64
		if err := row.Scan(&n); err != nil {
			return err
		}
		if n > p.versions {
			return errChanged
		}
		return nil
	})
}

// read finds out what has changed.
//
// Errors: TooCostly where that is too much.
func (p *past) read(ctx context.Context, run *runner) error {
	ix := run.store.indexer.Load()
	p.before, p.changed, p.gone, p.keys, p.versions, p.elsewhere = nil, nil, []int64{}, nil, 0, false // an array that is NULL would leave out all
	err := run.rows(ctx, func(rows pgx.Rows) error {
		for rows.Next() {
			var typ int16
			var rk, changes int64
			var v Version
			var updated *time.Time
			var literal *string
			var compartments []int64
			var labels *int32
			var gone bool
			if err := rows.Scan(&typ, &rk, &changes, &updated, &v.Content, &literal, &compartments, &labels, &gone); err != nil {
				return err
			}
			p.changed, p.versions = append(p.changed, rk), p.versions+changes
			p.elsewhere = p.elsewhere || slices.Contains(p.inner, typ)
			if len(p.changed) > MaxChangedWhilePaging {
				return fhir.NewError(fhir.TooCostly, fhir.CodeTooCostly, fmt.Sprintf(
					"More than %d resources have changed since the first page, so this link leads no further; begin again with the first page.", MaxChangedWhilePaging))
			}
			if gone {
				p.gone = append(p.gone, rk)
			}
			if updated == nil {
				continue
			}
			content := v.Content
			if literal != nil {
				content = []byte(*literal)
			}
			n, err := fhir.ParseJSON(content)
			if err != nil {
				return err
			}
			row, err := ix.row(n)
			if err != nil {
				return err
			}
			row.compartments, row.labels = compartments, *labels
			p.elsewhere = p.elsewhere || len(p.inner) > 0 && len(row.contained) > 0 // chains lead into it
			for _, c := range row.contained {
				p.keys = append(p.keys, c.rk)
			}
			tables := newIndexTables()
			list := append(tables.all(), &tableRows{table: "resource", columns: []string{"rk", "content"}})
			for _, t := range list {
				t.json = true
			}
			tables.add(rk, row, *updated, ix.generation)
			if p.sorted {
				list[len(list)-1].add(rk, jsonText(v.Content))
			}
			p.before = append(p.before, rowsJSON(list))
		}
		return rows.Err()
	}, sqlBefore, p.types, p.snapshot, p.own, MaxChangedWhilePaging+1, p.inner)
	if p.keys = append(p.keys, p.changed...); err != nil || len(p.changed) == 0 {
		return err
	}
	return run.rows(ctx, func(rows pgx.Rows) error {
		inside, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		p.keys = append(p.keys, inside...)
		return err
	}, sqlInside, p.changed)
}
