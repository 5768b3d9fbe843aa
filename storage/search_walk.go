package storage

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"kiln/fhir/search"
)

// sideOrder is a table of values in the order that a search asks for.
type sideOrder struct {
	table, column string
	// which are the rows of the table to look at: those of one parameter, or one code.
	which string
	// unique says that a resource stands there once.
	unique bool
	// highest says that the highest value of a resource counts, and not the lowest.
	highest bool
	// condition is the one of the search that the rows meet; "" for none.
	condition string
	// partial is what a part of a text is looked for by; nil for none.
	partial *partialText
}

// entryRows is how many entries of an index are gone through where they tell themselves most of what does not match: a
// thousand cost about a tenth of a thousand rows of a table.
const entryRows = 5000

// sideOrderOf tells which table has the values of a parameter in order; nil for none.
func sideOrderOf(p *paramPlan, descending bool) *sideOrder {
	o := &sideOrder{which: fmt.Sprintf("s.param = %d", int32(p.def.Key)), highest: descending}
	switch p.def.Type {
	case search.Token:
		if !p.identifies {
			return nil
		}
		o.table, o.column = "search_identifier", "value"
	case search.String, search.URI:
		o.table, o.column = "search_string", "value"
	case search.Date:
		o.table, o.column = "search_date", "low"
	case search.Number, search.Quantity:
		o.table, o.column = "search_number", "low"
	default:
		return nil
	}
	return o
}

// byText orders a search without an order of its own by the text that it asks for the beginning of: the index has that
// order, and a page ends the search. Of a resource with several such texts the first counts.
func (p *searchPlan) byText(q *search.Query, conditions []string) bool {
	for i, e := range q.Where {
		m, ok := e.(*search.Match)
		if !ok || m.Param.Kind != search.String || len(m.Values) != 1 || m.Modifier != "" && m.Modifier != "contains" && m.Modifier != "text" {
			continue
		}
		all, partial := "", (*partialText)(nil)
		for _, t := range p.c.partials {
			if t.all == conditions[i] {
				all, partial = t.row, t
			}
		}
		if partial == nil {
			inner, ok := strings.CutPrefix(conditions[i], "x.rk IN (SELECT s.rk FROM "+p.c.table("search_string", "x")+" s WHERE ")
			if !ok {
				continue
			}
			all = strings.TrimSuffix(inner, ")")
		}
		p.order.keys = []sortKey{{sql: "(SELECT min(s.value) FROM " + p.c.table("search_string", "x") + " s WHERE s.rk = x.rk AND " + all + `) COLLATE "C"`, typ: "text", notNull: true}}
		p.order.side = &sideOrder{table: "search_string", column: "value", which: all, condition: conditions[i], partial: partial}
		return true
	}
	return false
}

// walkable says whether the rows after mark begin with those that have a value. Those without one stand in no index:
// where they come next, the set is the way.
func (p *searchPlan) walkable(mark *SearchMark) bool {
	if p.skips() {
		return true
	}
	if mark == nil {
		return !p.order.keys[0].nullsFirst
	}
	return len(mark.Keys) == 1 && mark.Keys[0] != nil
}

// fewRows is how many rows of a window a walk along a reference counts beside: where it has fewer, nothing needs to be asked once more.
const fewRows = 64

// fewSeen is a condition that a walk of the usual number of rows sees all that can match, for it has few rows; "" where that is not to be expected,
// as of a code, nor worth a count. It says so beside each row.
func (p *searchPlan) fewSeen(c *compiler, mark *SearchMark, limit int) string {
	few := limit // nearly all that have the text match: so many fill the page
	switch {
	case p.before != "":
		return ""
	case p.order.side.unique && p.lister != nil:
		few = fewRows
	case p.order.side.condition == "":
		return ""
	}
	return fmt.Sprintf("(SELECT count(*)%s < %d FROM (%s) y)", p.passedOver(), few, p.window(c, mark, few))
}

// passedOver is added to a number of rows: much, where a walk along a code has passed over long periods.
func (p *searchPlan) passedOver() string {
	if p.order.side.column == "date_low" && p.order.keys[0].descending && len(p.dates.since) > 0 {
		return fmt.Sprintf(" + CASE WHEN EXISTS (%s) THEN %d ELSE 0 END", p.long(), entryRows)
	}
	return ""
}

// covers says whether a bounded look that began behind mark saw all that can match: there were fewer rows than it would
// have looked at.
func (p *searchPlan) covers(ctx context.Context, run *runner, how strategy, mark *SearchMark, limit int) (bool, error) {
	if p.before != "" {
		return false, nil
	}
	if p.skips() {
		return p.skippedAll(ctx, run, mark, limit)
	}
	c := p.compiler(p.conditions)
	window, more, look := "", "", 0
	if how == walk {
		side := p.order.side
		if side == nil || !side.unique && side.condition == "" { // what has no value is in no index
			return false, nil
		}
		more, look = p.passedOver(), p.look(limit)
		window = p.window(c, mark, look)
	} else {
		known, key := p.known(), func(int) string { return p.order.keys[0].sql }
		window, look = fmt.Sprintf("SELECT FROM search_index x WHERE %s AND %s LIMIT %d", p.bounds, known.after(c, mark, key, "x.rk"), probeRows), probeRows
	}
	// The conditions are there only for their arguments, which must have a place.
	sql := fmt.Sprintf("SELECT count(*)%s FROM (%s) y WHERE true OR EXISTS (SELECT FROM search_index x WHERE %s)", more, window, p.where)
	var n int
	err := query(ctx, run, false, sql, c.args, func(rows pgx.Rows) (err error) {
		n, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int])
		return err
	}, nil)
	return n < look, err
}

// known is the plan for rows that have a value of the first sort key.
func (p *searchPlan) known() *searchPlan {
	known := *p
	known.order.keys = slices.Clone(p.order.keys)
	known.order.keys[0].notNull = true
	return &known
}

// look is how many rows of the table of values a walk looks at.
func (p *searchPlan) look(limit int) int {
	if p.valued() {
		return entryRows
	}
	return probeRows + 2*limit
}

// window is a query of so many rows of the table of values in the order asked for, from mark on, with the value as k0.
func (p *searchPlan) window(c *compiler, mark *SearchMark, look int) string {
	side, known := p.order.side, p.known()
	which, more := side.which, ""
	if side.column == "date_low" && p.order.keys[0].descending { // long periods come behind the others
		which += p.dates.short("s.date_low")
	} else if side.column == "date_low" {
		which += p.dates.bounds("s.date_low")
	}
	switch {
	case p.valued():
		more = ", s.value"
	case p.stated():
		more = ", s.state"
	}
	if t := side.partial; t != nil {
		key := func(int) string { return "t.value" }
		// The planner takes a number that it does not know for a tenth of all. One that it knows would be more rows than it expects, and then
		// it reads and sorts the rows of all texts, where a page needs those of the first few.
		return fmt.Sprintf("SELECT s.rk, t.value AS k0 FROM (%s) t CROSS JOIN LATERAL (SELECT s.rk FROM %s s WHERE %s AND s.value = t.value) s WHERE %s ORDER BY %s LIMIT (SELECT %d)",
			t.texts, side.table, t.param, known.after(c, mark, key, "s.rk"), known.orderBy(key, "s.rk"), look)
	}
	key := func(int) string { return "s." + side.column }
	return fmt.Sprintf("SELECT s.rk, s.%s AS k0%s FROM %s s WHERE %s AND %s ORDER BY %s LIMIT %d",
		side.column, more, side.table, which, known.after(c, mark, key, "s.rk"), known.orderBy(key, "s.rk"), look)
}

// valued says whether a walk along a code is told by the index which rows have the value that the search asks for.
func (p *searchPlan) valued() bool {
	return p.order.side != nil && p.order.side.table == "search_code" && p.value != nil && p.lister == nil
}

// stated says whether a walk along a reference is told by the index which rows have the status that the search asks for.
func (p *searchPlan) stated() bool {
	return p.order.side != nil && p.order.side.table == "search_code" && p.state != nil && p.lister != nil
}

// walk looks at up to look values in the order asked for, from mark on; 0 is the usual number. Of a resource with several only the
// one that sorts first counts. What it gives is the beginning of the answer; a page that it does not fill may lack
// resources further on and those without a value.
func (p *searchPlan) walk(mark *SearchMark, limit, look int) statement {
	c := p.compiler(p.conditions)
	if p.skips() {
		found := p.fetch(c, p.skip(c, mark, limit)+fmt.Sprintf("SELECT w.rk FROM w WHERE w.ok ORDER BY %s LIMIT %d", p.orderBy(nil, "w.rk"), limit))
		found.once = p.alone
		return found
	}
	known := p.known()
	name := func(column string) func(int) string { return func(int) string { return column } }
	if p.order.side == nil { // the main date
		window := fmt.Sprintf("SELECT x.*, x.date_low AS k0 FROM search_index x WHERE %s AND %s ORDER BY %s LIMIT %d",
			p.bounds, known.after(c, mark, name("x.date_low"), "x.rk"), known.orderBy(name("x.date_low"), "x.rk"), probeRows+2*limit)
		return p.fetch(c, fmt.Sprintf("SELECT x.rk, x.k0 FROM (%s) x WHERE x.date_high > '-infinity' AND %s ORDER BY %s LIMIT %d",
			window, p.closer(""), known.orderBy(name("x.k0"), "x.rk"), limit))
	}
	side, few := p.order.side, ""
	if look == 0 {
		look, few = p.look(limit), p.fewSeen(c, mark, limit)
	}
	window := p.window(c, mark, look)
	if side.table == "search_code" && p.listedWhole && p.before == "" {
		return p.listedByCode(c, window, limit).telling(few)
	}
	told := ""
	switch {
	case p.valued():
		told = " AND " + p.value.within(c)
	case p.stated():
		told = " AND " + p.state(c)
	}
	if side.unique {
		where, rest := p.closer(""), p.where
		if p.valued() { // nearly all that the index tells to match do: their values are looked at one by one
			where = strings.NewReplacer(p.c.perRow...).Replace(where)
			for i := 0; i < len(p.c.perRow); i += 2 {
				rest = strings.ReplaceAll(rest, p.c.perRow[i], "")
			}
		}
		found := p.fetch(c, fmt.Sprintf("SELECT w.k0, w.rk FROM (%s) w JOIN search_index x ON x.rk = w.rk WHERE %s%s ORDER BY %s LIMIT %d",
			window, where, told, known.orderBy(name("w.k0"), "w.rk"), limit))
		found.once = !strings.Contains(rest, "(SELECT") // ranges leave nothing to choose: the rows of the window are known by their keys
		return found.telling(few)
	}
	return p.firstOf(c, mark, window, few, limit)
}

// firsts runs walk, or what else goes through firstOf. A first page begins with the first of all values, so that the first of a resource is
// the one that counts, and nothing needs to be looked up to know it: only if some resource came twice the statement runs once more, and makes sure.
func (p *searchPlan) firsts(ctx context.Context, run *runner, limit int, walk func(*searchPlan) statement) ([]found, error) {
	rows, err := p.run(ctx, run, walk(p), limit)
	if err != nil || p.sure || p.order.side == nil || p.order.side.unique {
		return rows, err
	}
	seen := make(map[int64]bool, len(rows))
	for i := range rows {
		seen[rows[i].mark.Row] = true
	}
	if len(seen) == len(rows) {
		return rows, nil
	}
	sure := *p
	sure.sure = true
	return p.run(ctx, run, walk(&sure), limit)
}

// firstOf looks at the rows of a window, of a resource at the first alone, and tells by few whether those are all; "" for no word of it.
func (p *searchPlan) firstOf(c *compiler, mark *SearchMark, window, few string, limit int) statement {
	side, known := p.order.side, p.known()
	key := func(int) string { return "w.k0" }
	// For each row by the index of the key and the parameter: that of the values would be read again for each resource, and all
	// values of the parameter for a join.
	others := strings.ReplaceAll(side.which, "s.", "o.")
	before := "<"
	if side.highest {
		before = ">"
	}
	where, order := p.closer(side.condition), known.orderBy(key, "w.rk")
	first := fmt.Sprintf("CASE WHEN EXISTS (SELECT FROM %[1]s o WHERE o.rk = w.rk AND %[2]s AND coalesce(o.%[3]s, o.%[3]s) %[4]s w.k0) THEN false ELSE true END",
		side.table, others, side.column, before)
	if !p.sure && mark == nil {
		first = "true"
	}
	if p.once() && p.before == "" { // all else that is asked is the type, which the resource itself has
		found := p.fetchOf(c, fmt.Sprintf("SELECT DISTINCT w.k0, w.rk FROM (%s) w WHERE %s ORDER BY %s", window, first, order),
			", LATERAL (SELECT m.rk, r.type_number AS type) x", " AND "+where, limit)
		if found.once = true; side.partial != nil && few != "" { // finding the texts again is half of the statement, and a full page asks for nothing
			column := func(i int) string { return fmt.Sprintf("z.k%d", i) }
			return found.tellingIfShort(few, limit, p.orderBy(column, "z.rk"))
		}
		return found.telling(few)
	}
	from := fmt.Sprintf("(%s) w JOIN search_index x ON x.rk = w.rk WHERE %s AND", window, where)
	row := !strings.Contains(where, "(SELECT") // what a row tells by itself is asked of one after the other, until the page is full
	if row {
		from = fmt.Sprintf("(SELECT w.k0, w.rk FROM (%s) w, LATERAL (SELECT FROM search_index x WHERE x.rk = w.rk AND %s OFFSET 0) x ORDER BY %s OFFSET 0) w WHERE",
			window, where, order)
	}
	found := p.fetch(c, fmt.Sprintf("SELECT DISTINCT w.k0, w.rk FROM %s\n%s ORDER BY %s LIMIT %d", from, first, order, limit))
	found.once = row || p.once()
	return found.telling(few)
}

// once says whether the only condition is the one on the text that a walk goes along, whose index is certain.
func (p *searchPlan) once() bool {
	return p.alone && p.order.side != nil && p.order.side.condition != ""
}
