package storage

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"kiln/fhir"
	"kiln/fhir/search"
)

// This file searches resources inside of others (FHIR R4 search.html#contained): with _contained=true only those, with both
// all. A match is shown as it is, or as the whole that it is in (_containedType=container), which comes once, in the place
// of the first of its matches.

// containedPart is one of the tables that the matches of such a search come from.
type containedPart struct {
	table string
	plan  *searchPlan
	// changed says that the rows are of what has changed since the first page, as it was then.
	changed bool
}

// containedPlan is a compiled search for contained resources: the order and the arguments are those of last.
type containedPlan struct {
	parts []containedPart
	last  *searchPlan
	whole bool
	// forward is the order of the first page.
	forward string
}

// planContained compiles the search for each table. Their arguments are one list.
func (s *Store) planContained(ctx context.Context, run *runner, q *search.Query, mark *SearchMark, past *past) (*containedPlan, error) {
	p := &containedPlan{whole: q.ContainedType != "contained"}
	var args []any
	others := ""
	if past != nil && past.elsewhere {
		others = "then_"
	}
	add := func(table string, c compiler, changed bool) error {
		c.args, c.others = args, others
		plan, err := s.planFor(ctx, run, q, c)
		if err != nil {
			return err
		}
		args = plan.c.args
		p.parts, p.last = append(p.parts, containedPart{table, plan, changed}), plan
		return nil
	}
	changed := past != nil && len(past.changed) > 0
	for _, inside := range []bool{false, true} {
		name := "search_index"
		if inside {
			name = "search_contained"
		} else if q.Contained != "both" {
			continue
		}
		if err := add(name, compiler{inside: inside}, false); err != nil {
			return nil, err
		}
		if changed {
			if err := add("was_"+name, compiler{inside: inside, was: true}, true); err != nil {
				return nil, err
			}
		}
	}
	p.forward = p.last.orderBy(p.last.column, "rk")
	p.last.parts = true
	if p.last.past = past; mark != nil && mark.Backward {
		p.last.order.reverse()
	}
	return p, nil
}

// matches is a query of all matches: rk is the key of the match, whole that of the resource to fetch, part the id within it.
func (p *containedPlan) matches(c *compiler) string {
	var tables []string
	for _, part := range p.parts {
		keys := ""
		for i, k := range part.plan.order.keys {
			keys += fmt.Sprintf(", %s AS k%d", k.sql, i)
		}
		whole, id, where := "x.rk", "''", part.plan.where
		if part.plan.c.inside {
			whole, id = "x.container", "x.id"
		}
		if !part.changed && p.last.past != nil && len(p.last.past.changed) > 0 {
			where += " AND x.rk NOT IN (SELECT unnest(" + c.arg(p.last.past.keys, "bigint[]") + "))"
		}
		tables = append(tables, fmt.Sprintf("SELECT x.rk, %s AS whole, %s AS part, %t AS changed%s FROM %s x WHERE %s", whole, id, part.changed, keys, part.table, where))
	}
	all := strings.Join(tables, "\nUNION ALL ")
	if !p.whole {
		return all
	}
	list := ""
	for i := range p.last.order.keys {
		list += fmt.Sprintf(", k%d", i)
	}
	return fmt.Sprintf("SELECT DISTINCT ON (whole) whole AS rk, whole, '' AS part, changed%s FROM (%s) e ORDER BY whole, %s", list, all, p.forward)
}

// page is a statement for the matches behind a mark.
func (p *containedPlan) page(mark *SearchMark, limit int) statement {
	c := p.last.compiler(len(p.last.c.args))
	matches := p.matches(c)
	snapshot := sqlPresent
	if p.last.past != nil {
		snapshot = "''"
	}
	found := fmt.Sprintf("WITH s AS MATERIALIZED (%s)\nSELECT * FROM s WHERE %s ORDER BY %s LIMIT %d", matches,
		p.last.after(c, mark, p.last.column, "rk"), p.last.orderBy(p.last.column, "rk"), limit)
	return statement{sql: fmt.Sprintf("SELECT m.rk, %s, m.changed, m.part, %s%s\nFROM (%s) m JOIN resource r ON r.rk = m.whole WHERE r.content IS NOT NULL\nORDER BY %s",
		snapshot, p.last.columns("m."), versionColumns, found, p.last.orderBy(func(i int) string { return fmt.Sprintf("m.k%d", i) }, "m.rk")), args: c.args}
}

// containedPage is page for such a search.
func (s *Store) containedPage(ctx context.Context, run *runner, q *search.Query, limit int, mark *SearchMark, past *past) (*SearchPage, error) {
	p, err := s.planContained(ctx, run, q, mark, past)
	if err != nil {
		return nil, err
	}
	rows, err := p.last.run(ctx, run, p.page(mark, limit+1), limit+1)
	if err != nil {
		return nil, err
	}
	return pageOf(rows, limit, len(rows) > limit, mark, mark != nil && mark.Backward), nil
}

// countContained is Count for such a search.
func (s *Store) countContained(ctx context.Context, run *runner, q *search.Query, most int) (n int64, err error) {
	p, err := s.planContained(ctx, run, q, nil, nil)
	if err != nil {
		return 0, err
	}
	c := p.last.compiler(len(p.last.c.args))
	sql := fmt.Sprintf("SELECT count(*) FROM (%s) y", p.matches(c))
	if most > 0 {
		sql = fmt.Sprintf("SELECT count(*) FROM (SELECT FROM (%s) z LIMIT %d) y", p.matches(c), most)
	}
	err = query(ctx, run, true, sql, c.args, func(rows pgx.Rows) (err error) {
		n, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int64])
		return err
	}, nil)
	return n, translate(err)
}

// seen is the condition on the contained resources found: see container. "" is none.
func (c *compiler) seen() (string, error) {
	if c.access == nil || c.access.everything {
		return "", nil
	}
	cond, err := c.container("x")
	return strings.TrimPrefix(cond, " AND "), err
}

// takeOut replaces the versions that stand for a resource inside by that resource.
func takeOut(versions []*Version) error {
	for i, v := range versions {
		if v.part == "" {
			continue
		}
		n, err := fhir.ParseJSON(v.Content)
		if err != nil {
			return err
		}
		var inside *fhir.Node
		for kid := range n.Get("contained").Items() {
			if inside == nil && kid.ID() == v.part {
				inside = kid
			}
		}
		if inside == nil {
			return errors.New("storage: a contained resource that the index knows is not there")
		}
		out := *v
		out.Type, out.ID, out.Content, out.Container = inside.ResourceType(), v.part, inside.JSON(), v.Type+"/"+v.ID
		versions[i] = &out
	}
	return nil
}
