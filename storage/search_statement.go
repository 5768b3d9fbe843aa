package storage

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// This file has the statements of a planned search, and what runs them and reads their rows.

type statement struct {
	sql  string
	args []any
	// once says that it leaves the planner nothing to choose, whatever the condition is made of.
	once bool
	// near is the same through the views of about.go, where it looks at the records that the search is about, and at little else; "" for none.
	near string
	// nearby says that near is sql with those views instead of the tables.
	nearby bool
	// weighed is the same with evidence of the rows: see weighed.go; "" for none.
	weighed string
	// tells says that the first column tells whether the statement has looked at all that can match.
	tells bool
}

// telling is a statement of fetch that tells, by a condition, whether it has looked at all that can match; without one it does not.
func (s statement) telling(condition string) statement {
	if condition != "" {
		s.sql, s.tells = "SELECT "+condition+", "+strings.TrimPrefix(s.sql, "SELECT "), true
	}
	return s
}

// tellingIfShort is telling that evaluates the condition where there are fewer rows than limit. order is that of the rows, of which z has the columns.
func (s statement) tellingIfShort(condition string, limit int, order string) statement {
	s.sql, s.tells = fmt.Sprintf("SELECT CASE WHEN count(*) OVER () < %d THEN %s ELSE false END, z.* FROM (%s) z ORDER BY %s", limit, condition, s.sql, order), true
	return s
}

const versionColumns = "r.type, r.id, r.version, r.last_updated, r.method, r.content, r.literal, r.compartments"

// ordered reads an index in the order asked for. With look > 0 it looks at so many rows and no more.
func (p *searchPlan) ordered(mark *SearchMark, limit, look int) statement {
	c := p.compiler(len(p.c.args))
	key := func(int) string { return p.order.keys[0].sql }
	place := p.after(c, mark, key, "x.rk")
	inner := fmt.Sprintf("SELECT x.rk, %s AS k0 FROM search_index x WHERE %s AND %s AND %s ORDER BY %s LIMIT %d",
		p.order.keys[0].sql, p.bounds, p.where, place, p.orderBy(key, "x.rk"), limit)
	if look > 0 {
		window := fmt.Sprintf("SELECT x.* FROM search_index x WHERE %s AND %s ORDER BY %s LIMIT %d", p.bounds, place, p.orderBy(key, "x.rk"), look)
		inner = fmt.Sprintf("SELECT x.rk, %s AS k0 FROM (%s) x WHERE %s ORDER BY %s LIMIT %d",
			p.order.keys[0].sql, window, p.closer(""), p.orderBy(key, "x.rk"), limit)
	}
	found := p.fetch(c, inner)
	// The index of the order is the one that there is, and what the rows are asked tells each of them.
	ranged := len(p.dates.low)+len(p.dates.high) > 0
	found.once = p.before == "" && !strings.Contains(p.where, "(SELECT") && (!ranged || p.order.keys[0].sql == "x.date_low")
	return found
}

// record reads the index of one patient in its order. To the planner the conditions look as if half of the rows met them:
// it would sort everything if it believed that few do.
func (p *searchPlan) record(mark *SearchMark, limit int) statement {
	c := p.compiler(len(p.c.args))
	key := func(int) string { return p.order.keys[0].sql }
	place := p.after(c, mark, key, "x.rk")
	found := p.fetch(c, fmt.Sprintf("SELECT x.rk, x.date_low AS k0 FROM search_index x WHERE %s AND %s AND CASE WHEN %s THEN true ELSE false END AND %s ORDER BY %s LIMIT %d",
		p.bounds, p.patient, p.where, place, p.orderBy(key, "x.rk"), limit))
	if p.plain && p.before == "" && !strings.Contains(p.where, "search_index ") { // through the view that has both, so that each row is looked at once
		found.near = fmt.Sprintf("SELECT x.rk, %s, false, x.date_low::text, x.type_name, x.id, x.version, x.updated, x.method, x.content, x.literal, x.compartments\nFROM about_entry x "+
			"WHERE %s AND %s AND CASE WHEN %s THEN true ELSE false END AND x.content IS NOT NULL AND %s ORDER BY %s LIMIT %d",
			p.snapshot(), p.bounds, p.patient, p.where, place, p.orderBy(key, "x.rk"), limit)
		if weighable(p.where) {
			found.weighed = strings.Replace(withEvidence(found.near, "x", "type"), "about_entry x", entryOfRecord+" x", 1)
		}
	}
	return found
}

// set collects all matches, then sorts them.
func (p *searchPlan) set(mark *SearchMark, limit int) statement {
	where, c := p.collected(len(p.c.args))
	where = strings.NewReplacer(p.c.eachWay...).Replace(where)
	after := p.after(c, mark, p.column, "rk")
	if p.parted != nil {
		return p.fetch(c, p.collect("("+p.parted.rows(p, c)+")", "true", after, limit))
	}
	if len(p.c.unions) > 0 {
		return p.fetch(c, p.collect(strings.TrimSuffix(p.eachType(c, where, "OFFSET 0"), " x"), "true", after, limit))
	}
	found := p.fetch(c, p.collect("search_index", where, after, limit))
	if found.nearby = p.plain; p.plain && p.before == "" && weighable(where) {
		sql := found.sql
		if p.beyond {
			sql = p.fetch(c, p.collect("search_index", where+" AND "+inOpen("x"), after, limit)).sql
		}
		found.weighed = withEvidence(sql, "r", "type_number")
	}
	return found
}

// collect is what set does with the rows of a table that are as search_index has them.
func (p *searchPlan) collect(table, where, after string, limit int) string {
	list := ""
	for i, k := range p.order.keys {
		list += fmt.Sprintf(", %s AS k%d", k.sql, i)
	}
	return fmt.Sprintf("WITH s AS MATERIALIZED (SELECT x.rk%s FROM %s x WHERE %s)\nSELECT * FROM s WHERE %s ORDER BY %s LIMIT %d",
		list, table, where, after, p.orderBy(p.column, "rk"), limit)
}

func (p *searchPlan) column(i int) string { return fmt.Sprintf("k%d", i) }

// fetch adds the resources to the rows found.
func (p *searchPlan) fetch(c *compiler, inner string) statement {
	return p.fetchOf(c, inner, "", "", 0)
}

// fetchOf is fetch of those rows m whose resources r meet a condition, with more tables for it, and of so many; 0 is all.
func (p *searchPlan) fetchOf(c *compiler, inner, tables, where string, limit int) statement {
	return p.fetchBy(c, inner, "JOIN resource r USING (rk)"+tables, where, limit)
}

// fetchBy is fetchOf by a join of its own.
func (p *searchPlan) fetchBy(c *compiler, inner, join, where string, limit int) statement {
	column := func(i int) string { return fmt.Sprintf("m.k%d", i) }
	changed := "false"
	if p.before != "" {
		list := "rk"
		for i := range p.order.keys {
			list += fmt.Sprintf(", k%d", i)
		}
		inner, changed = fmt.Sprintf("SELECT %s, false AS changed FROM (%s) a\nUNION ALL SELECT %s, true FROM (%s) b", list, inner, list, p.before), "m.changed"
	}
	sql := fmt.Sprintf("SELECT m.rk, %s, %s, %s%s\nFROM (%s) m %s WHERE r.content IS NOT NULL%s\nORDER BY %s",
		p.snapshot(), changed, p.columns("m."), versionColumns, inner, join, where, p.orderBy(column, "m.rk"))
	if limit > 0 {
		sql += fmt.Sprintf(" LIMIT %d", limit)
	}
	return statement{sql: sql, args: c.args}
}

// snapshot is what the first page saw: other pages know it.
func (p *searchPlan) snapshot() string {
	if p.past != nil {
		return "''"
	}
	return sqlPresent
}

// found is one match with its place in the order.
type found struct {
	version *Version
	mark    SearchMark
	// changed says that it has changed since the first page, and stands where it was then.
	changed bool
	// last says that the statement has looked at all that can match.
	last bool
}

func (p *searchPlan) run(ctx context.Context, on *runner, s statement, limit int) ([]found, error) {
	list, left := make([]found, 0, min(limit, 256)), on.store.room()
	anew := !p.planOnce(s)
	var after func(*pgx.Batch)
	if p.past != nil {
		s, anew, after = p.past.tables(s), anew || p.before != "", p.past.check
	}
	read := func(rows pgx.Rows) (err error) {
		var f found
		part, keys := "", make([]*string, len(p.order.keys))
		before := []any{&f.mark.Row, &f.mark.Snapshot, &f.changed}
		if s.tells {
			before = slices.Insert(before, 0, any(&f.last))
		}
		if p.parts {
			before = append(before, &part)
		}
		for i := range keys {
			before = append(before, &keys[i])
		}
		all := append(before, make([]any, versionWidth)...) // once, and not for each row
		for rows.Next() {
			if err := rows.Scan(all...); err != nil {
				return err
			}
			if f.version, err = versionBehind(rows, len(before)); err != nil {
				return err
			}
			left.take(f.version)
			f.mark.Keys = slices.Clone(keys)
			if f.version.part = part; p.past != nil {
				f.mark.Snapshot = p.past.mark
			}
			list = append(list, f)
		}
		return rows.Err()
	}
	var err error
	if !anew && after == nil {
		var clear bool
		if clear, err = on.ofRecord(ctx, s, read, func() { list, left = list[:0], on.store.room() }); clear {
			found := &cleared{on.access, on.about}
			for i := range list {
				list[i].version.cleared = found
			}
		}
	} else {
		err = query(ctx, on, anew, s.sql, s.args, read, after)
	}
	return list, err
}
