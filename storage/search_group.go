package storage

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"kiln/fhir"
	"kiln/fhir/search"
)

// This file has searches sorted by a code or a reference, or by several keys. No table has resources in the order of a code, but
// search_sort_text has the texts: a page goes from text to text, and what has one is found by its hash, like what a search for it
// would find. What has the text among others, and sorts by another, is told by the resource itself. Then comes what has none.

const (
	// fewSorted is up to how many matches are read and sorted at once.
	fewSorted = 2000
	// textsAtOnce is how many texts one statement asks about at most, and MaxSortTexts how many a page goes through.
	textsAtOnce  = 1024
	MaxSortTexts = 20_000
)

// groups says whether a search can go from text to text.
func (p *searchPlan) groups(q *search.Query) bool {
	if len(q.Types) != 1 || q.Contained != "" || len(p.order.keys) < 2 || len(q.Sort) == 0 || p.bounded || p.rare(q) || !p.c.ix.complete {
		return false
	}
	return p.steps()
}

// steps says whether the first key of an order is one that has many matches, and the others order what has one value of it.
func (p *searchPlan) steps() bool {
	if len(p.order.keys) == 0 {
		return false
	}
	by := p.order.keys[0]
	if by.content != nil {
		return !p.c.ix.building[by.content.def.Key] && by.content.sortListed
	}
	if len(p.order.keys) > 1 {
		return by.column != "" || by.text != nil && !p.c.ix.building[by.text.def.Key]
	}
	return by.column != "" && by.sql != "x.date_low" && p.common
}

// grouped answers a search sorted by a code or a reference that has many matches; done is false where it is for the set to do. Where so
// many texts have no match that the page is not full by then, it is shown as it is, and the next one goes on there.
//
// Errors: TooCostly where that is so and there are further keys, and more than MaxSortedByContent match.
func (p *searchPlan) grouped(ctx context.Context, on *runner, q *search.Query, mark *SearchMark, limit int) (page *SearchPage, done bool, err error) {
	if !p.groups(q) {
		return nil, false, nil
	}
	if p.before != "" {
		p.named = " AND (true OR EXISTS (SELECT FROM (" + p.before + ") b))"
	}
	if n, err := p.count(ctx, on, on.store.sorting.atOnce+1); err != nil || n <= int64(on.store.sorting.atOnce) {
		return nil, false, err
	}
	// What changes between the statements counts as changed since.
	snapshot := ""
	err = on.rows(ctx, func(rows pgx.Rows) (err error) {
		snapshot, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[string])
		return err
	}, "SELECT "+sqlPresent)
	if err != nil {
		return nil, false, err
	}
	w := &grouping{ctx: ctx, on: on, texts: on.store.sorting.texts}
	places, err := w.places(p, mark, limit+1)
	if err != nil {
		return nil, false, err
	}
	var end *SearchMark
	if w.cut && len(places) <= limit {
		if err = p.fewEnough(ctx, on); fhir.KindOf(err) != fhir.TooCostly || len(p.order.keys) > 2 || p.order.keys[0].content == nil {
			return nil, false, err
		}
		end = p.behind(w.last, snapshot)
	}
	rows, err := p.run(ctx, on, p.placed(places), limit+1)
	if err != nil {
		return nil, false, err
	}
	for i := range rows {
		if p.past == nil {
			rows[i].mark.Snapshot = snapshot
		}
	}
	if end != nil { // what has changed since may stand further on
		rows = slices.DeleteFunc(rows, func(r found) bool { return p.order.keys[0].isBehind(r.mark.Keys[0], w.last) })
	}
	backward := mark != nil && mark.Backward
	page = pageOf(rows, limit, len(rows) > limit || len(places) > limit || end != nil, mark, backward)
	if page.Complete = page.Complete && end == nil; end != nil && roomFor(rows) == len(rows) && len(rows) <= limit {
		if end.Backward = backward; backward {
			page.Previous = end
		} else {
			page.Next = end
		}
	}
	if len(rows) == 0 && mark != nil && (mark.Row == math.MaxInt64 || mark.Row == math.MinInt64) { // no match stands there, so this leads back
		back := *mark
		if back.Backward = !backward; backward {
			page.Next = &back
		} else {
			page.Previous = &back
		}
	}
	return page, true, nil
}

// isBehind says whether a key, nil for a missing one, comes behind a text.
func (k *sortKey) isBehind(key *string, text string) bool {
	switch {
	case key == nil:
		return !k.nullsFirst
	case k.descending:
		return *key < text
	}
	return *key > text
}

// behind is the place behind all that sorts by a text, in the order of the page.
func (p *searchPlan) behind(text, snapshot string) *SearchMark {
	row := int64(math.MaxInt64)
	if p.order.rowDescending {
		row = math.MinInt64
	}
	if p.past != nil {
		snapshot = p.past.mark
	}
	return &SearchMark{Keys: []*string{&text, p.order.keys[1].end()}, Row: row, Snapshot: snapshot}
}

// end is what no value of a key comes behind: nil where those that are missing come last.
func (k *sortKey) end() *string {
	last := "infinity"
	switch {
	case !k.nullsFirst && !k.notNull:
		return nil
	case k.typ == "text" && k.descending:
		last = ""
	case k.typ == "text":
		last = strings.Repeat("\U0010FFFF", MaxStringIndexed+1)
	case k.descending:
		last = "-infinity"
	}
	return &last
}

// placed fetches what stands at some places.
func (p *searchPlan) placed(places []SearchMark) statement {
	c := p.compiler(len(p.c.args))
	if p.before == "" {
		c = p.compiler(0)
	}
	keys := make([]int64, len(places))
	for i, at := range places {
		keys[i] = at.Row
	}
	list, columns := "m.rk", c.arg(keys, "bigint[]")
	names := "rk"
	for k, key := range p.order.keys {
		texts := make([]*string, len(places))
		for i, at := range places {
			texts[i] = at.Keys[k]
		}
		as := "::" + key.typ
		if key.typ == "text" {
			as = ` COLLATE "C"`
		}
		list += fmt.Sprintf(", m.k%d%s AS k%d", k, as, k)
		columns += ", " + c.arg(texts, "text[]")
		names += fmt.Sprintf(", k%d", k)
	}
	from := fmt.Sprintf("SELECT %s FROM unnest(%s) AS m(%s)", list, columns, names)
	if p.before != "" { // the conditions are there only for their arguments, which must have a place
		from += " WHERE true OR EXISTS (SELECT FROM search_index x WHERE " + p.where + p.namesKeys() + ")"
	}
	found := p.fetch(c, from)
	found.once = p.before == ""
	return found
}

// namesKeys is a condition that holds, with all that the order is made of: its arguments must have a place in a statement.
func (p *searchPlan) namesKeys() string {
	var b strings.Builder
	for _, k := range p.order.keys {
		fmt.Fprintf(&b, " AND (true OR (%s) IS NULL)", k.sql)
	}
	return b.String()
}

// sortBounds are fewSorted, MaxSortTexts and MaxSortedByContent; tests ask for less.
type sortBounds struct{ atOnce, texts, most int }

// grouping goes through the texts of one page.
type grouping struct {
	ctx context.Context
	on  *runner
	// texts is how many may still be asked about, last the one that was last. cut says that there were no more to ask about, perhaps
	// deep within: nothing that comes behind such a gap must get onto the page.
	texts int
	last  string
	cut   bool
}

// places are the first of a plan behind mark, so many at most.
func (w *grouping) places(p *searchPlan, mark *SearchMark, limit int) (list []SearchMark, err error) {
	if mark != nil && len(mark.Keys) != len(p.order.keys) {
		mark = nil
	}
	leaf := !p.steps()
	if !leaf && p.few {
		n, err := p.count(w.ctx, w.on, w.on.store.sorting.atOnce+1)
		if err != nil {
			return nil, err
		}
		leaf = n <= int64(w.on.store.sorting.atOnce)
	}
	if leaf {
		return w.leaf(p, mark, limit)
	}
	by := p.order.keys[0]
	inTexts := mark == nil || mark.Keys[0] != nil
	none := func(at *SearchMark) error {
		more, err := w.places(p.group(nil), at, limit-len(list))
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
		if by.column != "" {
			through = w.throughColumn
		}
		more, err := through(p, mark, limit)
		if list = append(list, more[:min(len(more), limit-len(list))]...); err != nil || len(list) >= limit || w.cut {
			return list, err
		}
		mark = nil
	}
	if by.nullsFirst || by.notNull {
		return list, nil
	}
	return list, none(inner(mark))
}

// throughColumn is places in the order of a column of search_index first: so many rows as there must be, and all that have the same
// value there as the last of them.
func (w *grouping) throughColumn(p *searchPlan, mark *SearchMark, limit int) ([]SearchMark, error) {
	c := p.compiler(len(p.c.args))
	by := p.order.keys[0]
	op, direction := ">", ""
	if by.descending {
		op, direction = "<", " DESC"
	}
	where := p.closer("")
	if p.common { // collecting what has a common code would take longer than going along the column
		where = "CASE WHEN " + where + " THEN true ELSE false END"
	}
	where = p.bounds + " AND " + where + p.named
	if !by.notNull {
		where += " AND x.date_high > '-infinity'"
	}
	behind, same, is := "true", "", " AND "+conjunction(p.sortsBy)
	if mark != nil {
		at := c.arg(*mark.Keys[0], "text") + "::" + by.typ
		behind = fmt.Sprintf("%s %s %s", by.column, op, at)
		same = fmt.Sprintf("\nUNION ALL SELECT x.* FROM search_index x WHERE %s AND %s = %s%s", where, by.column, at, is)
	}
	list, keys := "", ""
	for i, k := range p.order.keys {
		list += fmt.Sprintf(", %s AS k%d", k.sql, i)
		keys += fmt.Sprintf(", s.k%d::text", i)
	}
	column := func(i int) string { return fmt.Sprintf("s.k%d", i) }
	return w.run(p, statement{args: c.args, sql: fmt.Sprintf(`SELECT s.rk%s FROM (SELECT x.rk%s FROM ((SELECT x.* FROM search_index x WHERE %s AND %s%s ORDER BY %s%s FETCH FIRST %d ROWS WITH TIES)%s) x) s WHERE %s ORDER BY %s LIMIT %d`,
		keys, list, where, behind, is, by.column, direction, limit, same, p.after(c, mark, column, "s.rk"), p.orderBy(column, "s.rk"), limit)}, limit)
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
	sqlTextsUp     = `SELECT DISTINCT s.value FROM search_sort_text s WHERE s.param = $1 AND ($2::text IS NULL OR s.value > $2) ORDER BY s.value LIMIT $3`
	sqlTextsDown   = `SELECT DISTINCT s.value FROM search_sort_text s WHERE s.param = $1 AND ($2::text IS NULL OR s.value < $2) ORDER BY s.value DESC LIMIT $3`
	sqlStringsUp   = `SELECT DISTINCT s.value FROM search_string_value s WHERE s.param = $1 AND ($2::text IS NULL OR s.value > $2) ORDER BY s.value LIMIT $3`
	sqlStringsDown = `SELECT DISTINCT s.value FROM search_string_value s WHERE s.param = $1 AND ($2::text IS NULL OR s.value < $2) ORDER BY s.value DESC LIMIT $3`
)

// throughTexts is places among what has a text.
func (w *grouping) throughTexts(p *searchPlan, mark *SearchMark, limit int) (list []SearchMark, err error) {
	by := p.order.keys[0]
	var after *string
	if mark != nil {
		after = mark.Keys[0]
		more, err := w.places(p.group(after), inner(mark), limit)
		if list = under(after, more); err != nil || len(list) >= limit || w.cut {
			return list, err
		}
	}
	// Texts of which few resources have each are asked about together: twice as many, as long as the page is not full. Of what
	// stands in tokens much has each.
	together := by.content != nil && by.content.termColumn() == "refs" && len(p.order.keys) == 2 && p.order.keys[1].sql == "x.date_low"
	for size := 1; len(list) < limit; size = min(2*size, textsAtOnce) {
		if w.texts <= 0 {
			w.cut = true
			return list, nil
		}
		texts, err := w.next(p, after, size)
		if err != nil || len(texts) == 0 {
			return list, err
		}
		w.texts, w.last = w.texts-len(texts), texts[len(texts)-1]
		if together && len(texts) > 1 {
			more, err := w.all(p, texts, limit-len(list))
			if list = append(list, more...); err != nil {
				return list, err
			}
		} else {
			for _, text := range texts {
				more, err := w.places(p.group(&text), nil, limit-len(list))
				if list = append(list, under(&text, more)...); err != nil || len(list) >= limit || w.cut {
					return list, err
				}
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
	by := p.order.keys[0]
	of, sql := by.content, sqlTextsUp
	switch {
	case of == nil && by.descending:
		of, sql = by.text, sqlStringsDown
	case of == nil:
		of, sql = by.text, sqlStringsUp
	case by.descending:
		sql = sqlTextsDown
	}
	err = w.on.rows(w.ctx, func(rows pgx.Rows) (err error) {
		texts, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	}, sql, int32(of.def.Key), after, n)
	return texts, err
}

// group is the plan of what sorts by one text, or by none where it is nil, in the order of the other keys.
func (p *searchPlan) group(text *string) *searchPlan {
	g, by := *p, p.order.keys[0]
	g.c = p.compiler(len(p.c.args))
	g.order.keys = p.order.keys[1:]
	g.alone, g.code, g.codeOnly, g.ofPatient, g.chain, g.referrers, g.before = false, "", false, "", nil, nil, ""
	has, is := "", "("+by.sql+") IS NULL"
	if text != nil {
		is = fmt.Sprintf("(%s) = %s", by.sql, g.c.arg(*text, "text"))
	}
	switch {
	case by.column != "":
		has = "x.date_high = '-infinity'"
	case by.text != nil && text == nil:
		has = fmt.Sprintf("NOT EXISTS (SELECT FROM search_string s WHERE s.rk = x.rk AND s.param = %s)", g.c.arg(int32(by.text.def.Key), "integer"))
	case by.text != nil:
		has = fmt.Sprintf("x.rk IN (SELECT s.rk FROM search_string s WHERE s.param = %s AND s.value = %s)", g.c.arg(int32(by.text.def.Key), "integer"), g.c.arg(*text, "text"))
	case text == nil:
		has = g.c.withoutText(by.content, p.typeArgument)
	default:
		has = fmt.Sprintf("x.%s && %s", by.content.termColumn(), g.c.arg(p.c.ix.sortTerms(by.content, *text), "bigint[]"))
	}
	g.where = p.termFirst() + " AND " + has
	g.conditions = len(g.c.args)
	if by.column == "" { // the column is the answer
		g.sortsBy = append(slices.Clip(p.sortsBy), is)
	}
	g.named = p.namesKeys() + p.named + " AND (true OR " + is + ")"
	g.few = p.few || text != nil && (by.content == nil || by.content.termColumn() == "refs")
	g.common = !g.few && (text == nil || by.content != nil)
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
	if p.common && len(p.order.keys) == 1 && p.order.keys[0].sql == "x.date_low" {
		if list, err = w.run(p, p.newest(mark, limit), limit); err != nil || len(list) >= limit {
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

// leaves collects all, and asks of one after the other in their order what it sorts by, until there are enough.
func (p *searchPlan) leaves(mark *SearchMark, limit int) statement {
	c := p.compiler(len(p.c.args))
	list, keys := "", ""
	for i, k := range p.order.keys {
		list += fmt.Sprintf(", %s AS k%d", k.sql, i)
		keys += fmt.Sprintf(", x.k%d::text", i)
	}
	return statement{args: c.args, sql: fmt.Sprintf(`WITH s AS MATERIALIZED (SELECT x.rk%s FROM search_index x WHERE %s)
SELECT x.rk%s FROM (SELECT * FROM s WHERE %s ORDER BY %s OFFSET 0) x WHERE %s LIMIT %d`,
		list, p.where+p.named, keys, p.after(c, mark, p.column, "rk"), p.orderBy(p.column, "rk"), conjunction(p.sortsBy), limit)}
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
		c.arg(texts, "text[]"), c.arg(numbers, "integer[]"), c.arg(terms, "bigint[]"), p.termFirst(), p.named,
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

// run reads the places that a statement finds.
func (w *grouping) run(p *searchPlan, s statement, limit int) (list []SearchMark, err error) {
	err = w.query(p, s, func(rows pgx.Rows) error {
		for rows.Next() {
			at := SearchMark{Keys: make([]*string, len(p.order.keys))}
			into := []any{&at.Row}
			for i := range at.Keys {
				into = append(into, &at.Keys[i])
			}
			if err := rows.Scan(into...); err != nil {
				return err
			}
			list = append(list, at)
		}
		return rows.Err()
	})
	return list[:min(len(list), limit)], err
}

func (w *grouping) query(p *searchPlan, s statement, read func(pgx.Rows) error) error {
	if p.past != nil {
		s = p.past.tables(s)
	}
	return query(w.ctx, w.on, dependsOnValues(p.where), s.sql, s.args, read, nil)
}
