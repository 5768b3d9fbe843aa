package storage

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// This file goes along the texts of a sort key that search_sort_text has in order, those of a code or a reference: from one to the next, and
// into what has it, which the other keys order.

// sortBounds are fewSorted, MaxSortTexts, MaxSortedByContent, textAlone, valuesAtOnce and fewTreated; tests ask for less.
type sortBounds struct{ atOnce, texts, most, alone, values, treated, near, together int }

// grouping goes through the texts and values of one page.
type grouping struct {
	ctx    context.Context
	on     *runner
	bounds sortBounds
	// texts is how many may still be asked about. cut says that there were no more to ask about, perhaps deep within: nothing that comes
	// behind such a gap must get onto the page. end is where: the first keys of the last that has been looked at, one at least.
	texts int
	cut   bool
	end   []*string
}

// within notes that the look came to an end within what has a value of a key, nil for none.
func (w *grouping) within(value *string) {
	if w.cut {
		w.end = slices.Insert(w.end, 0, value)
	}
}

// stop ends the look behind what has a value of a key.
func (w *grouping) stop(value *string) { w.cut, w.end = true, []*string{value} }

// places are the first of a plan behind mark, so many at most.
func (w *grouping) places(p *searchPlan, mark *SearchMark, limit int) (list []SearchMark, err error) {
	if mark != nil && len(mark.Keys) != len(p.order.keys) {
		mark = nil
	}
	leaf := !p.steps()
	if !leaf && p.few {
		n, err := p.count(w.ctx, w.on, w.bounds.atOnce+1)
		if err != nil {
			return nil, err
		}
		leaf = n <= int64(w.bounds.atOnce)
	}
	if leaf {
		return w.leaf(p, mark, limit)
	}
	by := p.order.keys[0]
	inTexts := mark == nil || mark.Keys[0] != nil
	none := func(at *SearchMark) error {
		more, err := w.places(p.group(nil), at, limit-len(list))
		w.within(nil)
		list = append(list, under(nil, more)...)
		return err
	}
	if by.nullsFirst && !by.notNull && (mark == nil || !inTexts) {
		if err := none(inner(mark)); err != nil || len(list) >= limit || w.cut {
			return list, err
		}
		inTexts, mark = true, nil
	}
	if inTexts {
		through := w.throughTexts
		if by.content == nil {
			through = w.throughValues
		}
		more, err := through(p, mark, limit-len(list))
		if list = append(list, more...); err != nil || len(list) >= limit || w.cut {
			return list, err
		}
		mark = nil
	}
	if by.nullsFirst || by.notNull {
		return list, nil
	}
	return list, none(inner(mark))
}

// inner is the mark in the group that a mark lies in.
func inner(mark *SearchMark) *SearchMark {
	if mark == nil {
		return nil
	}
	return &SearchMark{Backward: mark.Backward, Keys: mark.Keys[1:], Row: mark.Row, Snapshot: mark.Snapshot}
}

// under puts the places of a group under its text.
func under(text *string, list []SearchMark) []SearchMark {
	for i := range list {
		list[i].Keys = slices.Insert(list[i].Keys, 0, text)
	}
	return list
}

const (
	sqlTextsUp   = `SELECT DISTINCT s.value FROM search_sort_text s WHERE s.param = $1 AND ($2::text IS NULL OR s.value > $2) ORDER BY s.value LIMIT $3`
	sqlTextsDown = `SELECT DISTINCT s.value FROM search_sort_text s WHERE s.param = $1 AND ($2::text IS NULL OR s.value < $2) ORDER BY s.value DESC LIMIT $3`
)

// throughTexts is places among what has a text.
func (w *grouping) throughTexts(p *searchPlan, mark *SearchMark, limit int) (list []SearchMark, err error) {
	by := p.order.keys[0]
	var after *string
	if mark != nil {
		after = mark.Keys[0]
		more, err := w.places(p.group(after), inner(mark), limit)
		w.within(after)
		if list = under(after, more); err != nil || len(list) >= limit || w.cut {
			return list, err
		}
	}
	// Texts of which few resources have each are asked about together: twice as many, as long as the page is not full. Of what
	// stands in tokens much has each.
	together := by.content.termColumn() == "refs" && len(p.order.keys) == 2 && p.order.keys[1].sql == "x.date_low"
	for size, first := 1, true; len(list) < limit; size, first = min(2*size, textsAtOnce), false {
		if w.texts <= 0 && !first { // at least some are looked at, so that the next page goes further
			w.stop(after)
			return list, nil
		}
		texts, err := w.next(p, after, size)
		if err != nil || len(texts) == 0 {
			return list, err
		}
		if together && len(texts) > 1 {
			w.texts -= len(texts)
			more, err := w.all(p, texts, limit-len(list))
			if list = append(list, more...); err != nil {
				return list, err
			}
		} else {
			for i, text := range texts {
				if w.texts <= 0 && !(first && i == 0) {
					w.stop(after)
					return list, nil
				}
				w.texts -= w.bounds.alone
				more, err := w.places(p.group(&text), nil, limit-len(list))
				w.within(&text)
				if list = append(list, under(&text, more)...); err != nil || len(list) >= limit || w.cut {
					return list, err
				}
				after = &texts[i]
			}
		}
		if len(texts) < size {
			break
		}
		after = &texts[len(texts)-1]
	}
	return list, nil
}

// next are the texts that come next.
func (w *grouping) next(p *searchPlan, after *string, n int) (texts []string, err error) {
	by, sql := p.order.keys[0], sqlTextsUp
	if by.descending {
		sql = sqlTextsDown
	}
	err = w.on.rows(w.ctx, func(rows pgx.Rows) (err error) {
		texts, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	}, sql, int32(by.content.def.Key), after, n)
	return texts, err
}

// group is the plan of what sorts by one text or value, or by none where it is nil, in the order of the other keys.
func (p *searchPlan) group(value *string) *searchPlan {
	g, by := *p, p.order.keys[0]
	g.c = p.compiler(len(p.c.args))
	g.order.keys = p.order.keys[1:]
	g.stepwise, g.merged, g.alone, g.code, g.codeOnly, g.ofPatient, g.chain, g.referrers, g.before = false, false, false, "", false, "", nil, nil, ""
	where, has, is := p.termFirst(), "", "("+by.sql+") IS NULL"
	if value != nil {
		is = fmt.Sprintf("(%s) = %s", by.sql, g.c.arg(*value, "text")+"::"+by.typ)
	}
	switch {
	case by.column != "" && value == nil:
		where, has = p.where, "x.date_high = '-infinity'"
	case by.column != "":
		where, has = p.where, by.column+" = "+g.c.arg(*value, "text")+"::"+by.typ
		if !by.notNull {
			has += " AND x.date_high > '-infinity'"
		}
	case by.content == nil && value == nil:
		where = p.where // no term finds what has none: without its type all of any type would be read
		has = fmt.Sprintf("NOT EXISTS (SELECT FROM %s s WHERE s.rk = x.rk AND %s)", by.side.table, by.side.which)
	case by.content == nil:
		row := fmt.Sprintf("%s AND s.%s = %s", by.side.which, by.side.column, g.c.arg(*value, "text")+"::"+by.typ)
		has = fmt.Sprintf("x.rk IN (SELECT s.rk FROM %s s WHERE %s)", by.side.table, row)
		g.lead = fmt.Sprintf("SELECT s.rk FROM %s s WHERE %s", by.side.table, row)
		g.c.closer = append(slices.Clip(g.c.closer), has, fmt.Sprintf("EXISTS (SELECT FROM %s s WHERE s.rk = x.rk AND %s OFFSET 0)", by.side.table, row))
	case value == nil:
		has = g.c.withoutText(by.content, p.typeArgument)
	default:
		has = fmt.Sprintf("x.%s && %s", by.content.termColumn(), g.c.arg(p.c.ix.sortTerms(by.content, *value), "bigint[]"))
	}
	g.where = where + " AND " + has
	g.conditions = len(g.c.args)
	if by.column == "" { // the column is the answer
		g.sortsBy = append(slices.Clip(p.sortsBy), is)
	}
	g.named = p.namesKeys() + p.named + " AND (true OR " + is + ")"
	g.few = p.few || value != nil && (by.content == nil || by.content.termColumn() == "refs")
	g.common = !g.few && (value == nil || by.content != nil)
	g.nearby = p.nearby && p.scarce && g.common // otherwise what has the text is less
	return &g
}

// termFirst is the condition of a plan, for what begins with a term: see ofType.
func (p *searchPlan) termFirst() string {
	return strings.Replace(p.where, "x.type = "+p.typeArgument, "x.type + 0 = "+p.typeArgument, 1)
}

// leaf is places in the order of the main date, or of few.
//
// Errors: TooCostly where a further code or reference is sorted by, and too many have what comes before it.
func (w *grouping) leaf(p *searchPlan, mark *SearchMark, limit int) (list []SearchMark, err error) {
	if p.common && !p.scarce && len(p.order.keys) == 1 && p.order.keys[0].sql == "x.date_low" {
		if list, err = w.run(p, p.newest(mark, limit), limit); err != nil || len(list) >= limit {
			return list, err
		}
	}
	if p.common && len(p.order.keys) == 0 && w.on.access.everything {
		if list, err = w.run(p, p.first(mark, limit), limit); err != nil || len(list) >= limit {
			return list, err
		}
	}
	if err := p.fewEnough(w.ctx, w.on); err != nil {
		return nil, err
	}
	return w.run(p, p.leaves(mark, limit), limit)
}

// newest looks at a number of rows in the order of the main date.
func (p *searchPlan) newest(mark *SearchMark, limit int) statement {
	c := p.compiler(len(p.c.args))
	key := func(int) string { return "x.date_low" }
	order := p.orderBy(key, "x.rk")
	return statement{args: c.args, sql: fmt.Sprintf("SELECT x.rk, x.date_low::text FROM (SELECT x.* FROM search_index x WHERE %s AND %s ORDER BY %s LIMIT %d) x WHERE %s AND %s%s ORDER BY %s LIMIT %d",
		p.bounds, p.after(c, mark, key, "x.rk"), order, probeRows, p.closer(""), conjunction(p.sortsBy), p.named, order, limit)}
}

// first looks at a number of rows in the order of their keys: of what a table has with the value of the group, or of all types.
func (p *searchPlan) first(mark *SearchMark, limit int) statement {
	c, lead, look := p.compiler(len(p.c.args)), p.lead, probeRows
	if lead == "" {
		lead, look = "SELECT s.rk FROM search_index s WHERE true", entryRows
	}
	after := p.after(c, mark, nil, "s.rk")
	return statement{args: c.args, sql: fmt.Sprintf("SELECT x.rk FROM search_index x WHERE x.rk = ANY(ARRAY(%s AND %s ORDER BY %s LIMIT %d)) AND %s AND %s%s ORDER BY %s LIMIT %d",
		lead, after, p.orderBy(nil, "s.rk"), look, p.closer(""), conjunction(p.sortsBy), p.named, p.orderBy(nil, "x.rk"), limit)}
}

// leaves collects all, and asks of one after the other in their order what it sorts by, until there are enough.
func (p *searchPlan) leaves(mark *SearchMark, limit int) statement {
	where, c := p.collected(len(p.c.args))
	if p.few {
		where = p.rowwise(where)
	}
	if len(p.order.keys) == 0 {
		// Without MATERIALIZED it would walk the primary key, through all other types.
		return statement{args: c.args, sql: fmt.Sprintf("WITH s AS MATERIALIZED (SELECT x.rk FROM search_index x WHERE %s)\nSELECT x.rk FROM (SELECT * FROM s WHERE %s ORDER BY %s OFFSET 0) x WHERE %s LIMIT %d",
			where+p.named, p.after(c, mark, nil, "rk"), p.orderBy(nil, "rk"), conjunction(p.sortsBy), limit)}
	}
	list := ""
	for i, k := range p.order.keys {
		list += fmt.Sprintf(", %s AS k%d", k.sql, i)
	}
	return statement{args: c.args, sql: fmt.Sprintf(`WITH s AS MATERIALIZED (SELECT x.rk%s FROM search_index x WHERE %s)
SELECT x.rk%s FROM (SELECT * FROM s WHERE %s ORDER BY %s OFFSET 0) x WHERE %s LIMIT %d`,
		list, where+p.named, p.keyTexts("x."), p.after(c, mark, p.column, "rk"), p.orderBy(p.column, "rk"), conjunction(p.sortsBy), limit)}
}

// all are the places of several texts, of which few resources have each.
func (w *grouping) all(p *searchPlan, texts []string, limit int) (list []SearchMark, err error) {
	by, c := p.order.keys[0], p.compiler(len(p.c.args))
	var numbers []int32
	var terms []int64
	for i, text := range texts {
		for _, term := range p.c.ix.sortTerms(by.content, text) {
			numbers, terms = append(numbers, int32(i+1)), append(terms, term)
		}
	}
	inner := *p
	inner.order.keys = p.order.keys[1:]
	key := func(int) string { return "k0" }
	is := append(slices.Clip(p.sortsBy), fmt.Sprintf("(%s) = u.text", by.sql))
	sql := fmt.Sprintf(`SELECT u.text, e.rk, e.k0::text FROM (SELECT t.n, (%s)[t.n] AS text, array_agg(t.term) AS terms FROM unnest(%s, %s) AS t(n, term) GROUP BY t.n) u,
LATERAL (WITH s AS MATERIALIZED (SELECT x.rk, x.date_low AS k0 FROM search_index x WHERE %s AND x.refs && u.terms%s)
SELECT x.rk, x.k0 FROM (SELECT * FROM s ORDER BY %s OFFSET 0) x WHERE %s LIMIT %d) e ORDER BY u.n, %s LIMIT %d`,
		c.arg(texts, "text[]"), c.arg(numbers, "integer[]"), c.arg(terms, "bigint[]"), p.rowwise(p.termFirst()), p.named,
		inner.orderBy(key, "rk"), strings.Join(is, " AND "), limit, inner.orderBy(func(int) string { return "e.k0" }, "e.rk"), limit)
	err = w.query(p, statement{sql: sql, args: c.args}, func(rows pgx.Rows) error {
		for rows.Next() {
			at := SearchMark{Keys: make([]*string, 2)}
			if err := rows.Scan(&at.Keys[0], &at.Row, &at.Keys[1]); err != nil {
				return err
			}
			list = append(list, at)
		}
		return rows.Err()
	})
	return list, err
}

// rowwise is a condition for few rows: what asks for a part of a text looks at the texts of each, and not for all texts with it.
func (p *searchPlan) rowwise(where string) string {
	for _, t := range p.c.partials {
		where = strings.ReplaceAll(where, t.all, "EXISTS (SELECT FROM search_string s WHERE s.rk = x.rk AND "+t.row+" OFFSET 0)")
	}
	return where
}

// run reads the places that a statement finds.
func (w *grouping) run(p *searchPlan, s statement, limit int) (list []SearchMark, err error) {
	err = w.query(p, s, func(rows pgx.Rows) error {
		list, err = p.read(rows)
		return err
	})
	return list[:min(len(list), limit)], err
}

func (w *grouping) query(p *searchPlan, s statement, read func(pgx.Rows) error) error {
	if p.past != nil {
		s = p.past.tables(s)
	}
	return query(w.ctx, w.on, dependsOnValues(p.where), s.sql, s.args, read, nil)
}
