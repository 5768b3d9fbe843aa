package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"kiln/fhir/search"
)

// planSince plans a page. Where resources have changed since the first one, the plan passes over them, and finds them
// apart, as they were.
func (s *Store) planSince(ctx context.Context, run *runner, q *search.Query, limit int, mark *SearchMark, p *past) (*searchPlan, error) {
	backward := mark != nil && mark.Backward
	if p == nil || len(p.changed) == 0 {
		plan, err := s.plan(ctx, run, q)
		if err != nil {
			return nil, err
		}
		if plan.past = p; backward {
			plan.order.reverse()
		}
		return plan, nil
	}
	others := ""
	if p.elsewhere {
		others = "then_"
	}
	was, err := s.planFor(ctx, run, q, compiler{was: true, others: others})
	if err != nil {
		return nil, err
	}
	if backward {
		was.order.reverse()
	}
	c := was.compiler(len(was.c.args))
	before := was.collect("was_search_index", was.where+" AND x.rk <> ALL("+c.arg(p.gone, "bigint[]")+")", was.after(c, mark, was.column, "rk"), limit)
	changed := c.arg(p.changed, "bigint[]")
	plan, err := s.planFor(ctx, run, q, compiler{args: c.args, others: others})
	if err != nil {
		return nil, err
	}
	if backward {
		plan.order.reverse()
	}
	plan.past, plan.before = p, before
	plan.unchanged = "x.rk NOT IN (SELECT unnest(" + changed + "))"
	plan.where += " AND " + plan.unchanged
	return plan, nil
}

// unchanged counts the rows that the tables of the index have.
func unchanged(rows []found) (n int) {
	for _, r := range rows {
		if !r.changed {
			n++
		}
	}
	return n
}

// tables are the tables of the index as they were, for a statement that names them: was_search_index with the rows of
// what has changed, and then_… with the rest.
func (p *past) tables(s statement) statement {
	if len(p.changed) == 0 {
		return s
	}
	c := compiler{args: slices.Clone(s.args)}
	with := []string{"was_search_index AS MATERIALIZED (SELECT r.*, u.tables FROM (SELECT t::jsonb AS tables FROM unnest(" + c.arg(p.before, "text[]") + ") AS t) u, " +
		"jsonb_populate_recordset(NULL::search_index, u.tables->'search_index') AS r)"}
	if strings.Contains(s.sql, " was_search_contained ") {
		with = append(with, "was_search_contained AS MATERIALIZED (SELECT r.*, w.tables FROM was_search_index w, "+
			"jsonb_populate_recordset(NULL::search_contained, w.tables->'search_contained') AS r WHERE w.rk <> ALL("+c.arg(p.gone, "bigint[]")+"))")
	}
	changed := ""
	for _, t := range newIndexTables().all() {
		if !p.elsewhere || !strings.Contains(s.sql, " then_"+t.table+" ") {
			continue
		}
		if changed == "" {
			changed = c.arg(p.keys, "bigint[]")
		}
		with = append(with, fmt.Sprintf("then_%[1]s AS NOT MATERIALIZED (SELECT * FROM %[1]s WHERE rk NOT IN (SELECT unnest(%[2]s)) UNION ALL "+
			"SELECT r.* FROM was_search_index w, jsonb_populate_recordset(NULL::%[1]s, w.tables->'%[1]s') AS r)", t.table, changed))
	}
	rest, more := strings.CutPrefix(s.sql, "WITH ")
	separator := "\n"
	if more {
		separator = ",\n"
	}
	return statement{sql: "WITH " + strings.Join(with, ",\n") + separator + rest, args: c.args}
}

// later is a page behind one whose mark has a snapshot, when something has changed since.
func (s *Store) later(ctx context.Context, tx *Tx, q *search.Query, limit int, mark *SearchMark, p *past) (page *SearchPage, err error) {
	work := func(tx *Tx) error {
		run, err := s.runner(ctx, tx)
		if err != nil {
			return err
		}
		if err := p.read(ctx, run); err != nil {
			return err
		}
		page, err = s.page(ctx, run, q, limit, mark, p)
		return err
	}
	if tx != nil { // it sees more from statement to statement
		err = work(tx)
		for try := 0; errors.Is(err, errChanged) && try < maxAttempts; try++ {
			err = work(tx)
		}
		if errors.Is(err, errChanged) {
			err = transient("Others are writing the resources that this search looks at; try again.", err)
		}
	} else {
		err = s.transact(ctx, true, work)
	}
	if err != nil {
		return nil, err
	}
	return page, s.allowed(ctx, page, p)
}

// allowed leaves out of a page what granular scopes hide of resources as they are now: that they were to be seen at the
// first page says nothing of that.
func (s *Store) allowed(ctx context.Context, page *SearchPage, p *past) error {
	var others []*Version
	for _, v := range page.Matches {
		if slices.Contains(p.changed, s.hash.Resource(v.Type, v.ID)) {
			others = append(others, v)
		}
	}
	kept, applies, err := s.Narrowed(ctx, others)
	if err != nil || !applies {
		return err
	}
	page.Matches = slices.DeleteFunc(page.Matches, func(v *Version) bool {
		return slices.Contains(others, v) && !slices.Contains(kept, v)
	})
	return nil
}
