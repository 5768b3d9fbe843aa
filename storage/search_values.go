package storage

import (
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// This file goes along the values of a sort key that a table of the index has in order: a number, a quantity, a date, a text of a
// string or uri, a time of search_index itself. What comes after it in the order is told by each of the resources.

// valuesAtOnce is how many entries of the table one statement looks at, at most. rowsAsText is how many cost as much as a text to sort by that
// is asked about with others.
const (
	valuesAtOnce = 1024
	rowsAsText   = 16
)

// throughValues is places among what has a value, in the order of the values: so many entries as a page may need, then twice as many, as long
// as it is not full. The last value of them may have further entries, and is left for the next look; what has it alone is a group.
func (w *grouping) throughValues(p *searchPlan, mark *SearchMark, limit int) (list []SearchMark, err error) {
	from, inclusive, done := (*string)(nil), true, (*string)(nil) // done is the last value that lies behind mark and has been looked at
	if mark != nil {
		from = mark.Keys[0]
	}
	for look := min(2*limit+16, w.bounds.values); len(list) < limit; {
		if w.texts <= 0 && done != nil {
			w.stop(done)
			return list, nil
		}
		var n int
		var one, same bool
		var last, before *string
		var found []SearchMark
		err := w.query(p, p.values(mark, from, inclusive, look, limit-len(list)), func(rows pgx.Rows) error {
			for rows.Next() {
				at := SearchMark{Keys: make([]*string, len(p.order.keys))}
				var row *int64
				into := []any{&n, &one, &same, &last, &before, &row}
				for i := range at.Keys {
					into = append(into, &at.Keys[i])
				}
				if err := rows.Scan(into...); err != nil {
					return err
				}
				if row != nil {
					at.Row = *row
					found = append(found, at)
				}
			}
			return rows.Err()
		})
		if err != nil {
			return list, err
		}
		w.texts -= 1 + n/rowsAsText
		switch {
		case n < look: // that was all
			return append(list, found...), nil
		case !one:
			if mark == nil || !same {
				done = before
			}
			list, from, inclusive, mark = append(list, found...), last, true, nil
			look = min(2*look, w.bounds.values)
		case look < w.bounds.values:
			look = min(4*look, w.bounds.values)
		default:
			at := (*SearchMark)(nil)
			if mark != nil && same { // the mark lies within
				at = inner(mark)
			}
			much := p.group(last)
			much.few, much.common = p.few, !p.few
			more, err := w.places(much, at, limit-len(list))
			w.within(last)
			if list = append(list, under(last, more)...); err != nil || w.cut {
				return list, err
			}
			if mark == nil || !same {
				done = last
			}
			from, inclusive, mark = last, false, nil
		}
	}
	return list, nil
}

// values is one look of throughValues at the entries from a value on: beside each place how many entries there were, whether all had the same
// value, whether none but from has been looked at, the last value and, where there are several, the one before it. What has the last value is found only where no entries follow.
func (p *searchPlan) values(mark *SearchMark, from *string, inclusive bool, look, limit int) statement {
	c, by := p.compiler(len(p.c.args)), p.order.keys[0]
	table, value, which := "search_index", by.column, p.bounds
	if by.side != nil {
		table, value, which = by.side.table, "s."+by.side.column, by.side.which
	} else {
		value, which = strings.Replace(value, "x.", "s.", 1), strings.ReplaceAll(which, "x.", "s.")
		if !by.notNull {
			which += " AND s.date_high > '-infinity'"
		}
	}
	last, first, before, op, direction := "max", "min", "<", ">", ""
	if by.descending {
		last, first, before, op, direction = "min", "max", ">", "<", " DESC"
	}
	behind := p.after(c, mark, func(i int) string { return fmt.Sprintf("s.k%d", i) }, "s.rk")
	same := "false"
	if from != nil {
		if inclusive {
			op += "="
		}
		at := c.arg(*from, "text") + "::" + by.typ
		which += fmt.Sprintf(" AND %s %s %s", value, op, at)
		behind += fmt.Sprintf(" AND s.k0 %s %s", op, at)
		same = fmt.Sprintf("coalesce(coalesce(f.before, f.last) = %s, false)", at)
	}
	list := ""
	for i, k := range p.order.keys {
		list += fmt.Sprintf(", %s AS k%d", k.sql, i)
	}
	key := func(i int) string { return fmt.Sprintf("m.k%d", i) }
	return statement{args: c.args, sql: fmt.Sprintf(`WITH e AS MATERIALIZED (SELECT s.rk, %[1]s AS v FROM %[2]s s WHERE %[3]s ORDER BY %[1]s%[4]s LIMIT %[5]d),
l AS MATERIALIZED (SELECT count(*) AS n, %[6]s(v) AS last, %[7]s(v) AS first FROM e),
f AS MATERIALIZED (SELECT l.*, (SELECT %[6]s(e.v) FROM e WHERE e.v %[8]s l.last) AS before FROM l)
SELECT f.n, coalesce(f.first = f.last, false), %[17]s, f.last::text, f.before::text, m.rk%[9]s
FROM f LEFT JOIN LATERAL (SELECT s.* FROM (SELECT x.rk%[10]s FROM search_index x
WHERE x.rk = ANY(ARRAY(SELECT DISTINCT e.rk FROM e, f WHERE f.n < %[5]d OR e.v %[8]s f.last)) AND %[11]s AND %[12]s OFFSET 0) s
WHERE s.k0 IS NOT NULL AND (f.n < %[5]d OR s.k0 %[8]s f.last) AND %[13]s ORDER BY %[14]s LIMIT %[15]d) m ON true ORDER BY %[16]s`,
		value, table, which, direction, look, last, first, before, p.keyTexts("m."), list, p.rowwise(p.closer(""))+p.named, conjunction(p.sortsBy),
		behind, p.orderBy(func(i int) string { return fmt.Sprintf("s.k%d", i) }, "s.rk"), limit, p.orderBy(key, "m.rk"), same)}
}
