package storage

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"kiln/fhir"
	"kiln/fhir/search"
)

// This file has searches of several types that ask each type for terms of its own, and begin with the newest. No index has several types
// in one order, and a hundred alternatives take long to ask of a row: what is met often is found among the newest rows of all types, and what is
// rare by one condition on the terms of all.

// manyUnited is up to how many terms are looked for as one condition: see manyTerms.
const manyUnited = 10 * manyTerms

// fewNewest is how many of the newest rows are looked at first: each type is asked for so many, and what is common is there.
const fewNewest = 100

// manyNewest is how many rows of all types are looked at for words before a place that is known to be far enough.
const manyNewest = 100_000

// termsOf is a condition on terms: that a row has one of them in a column.
type termsOf struct {
	sql, column string
	terms       []int64
}

// united is one condition for alternatives that each ask for terms of one type; "" where they ask for anything else. parts are the alternatives as they are
// compiled, asked the terms of each, and their arguments those behind the first n. Its first half finds rows by an index; the second is as true, and quick to ask of a
// row, whose type tells which of the terms to look at.
func (c *compiler) united(e search.Or, parts []string, asked []termsOf, n int, x string) string {
	if len(parts) < 2 || x != "x" || !c.unites() {
		return ""
	}
	columns, numbers := c.termsByType(e, parts, asked, " AND ", ")")
	if numbers == nil {
		return ""
	}
	count := 0
	for _, one := range asked {
		count += len(one.terms)
	}
	if rks := columns["x.rk"]; rks != nil {
		if len(columns) > 1 {
			return ""
		}
		c.args = c.args[:n]
		return "x.rk = ANY(" + c.arg(slices.Concat(rks...), "bigint[]") + ")"
	}
	if count > manyUnited {
		return ""
	}
	c.args = c.args[:n]
	return c.union(columns)
}

// termsByType are the terms that alternatives ask for, each of those of one type between two texts, by column and number of the type, and those numbers; nil where one asks for
// anything else.
func (c *compiler) termsByType(e search.Or, parts []string, asked []termsOf, before, behind string) (columns map[string][][]int64, numbers []int16) {
	last := int(c.ix.registry.LastType())
	columns = map[string][][]int64{}
	for i, one := range e {
		and, ok := one.(search.And)
		if !ok || len(and) != 2 || asked[i].sql == "" || !strings.HasSuffix(parts[i], before+asked[i].sql+behind) {
			return nil, nil
		}
		typ, ok := and[0].(*search.IsType)
		if !ok {
			return nil, nil
		}
		ofTypes := columns[asked[i].column]
		if ofTypes == nil {
			ofTypes = make([][]int64, last+1)
			columns[asked[i].column] = ofTypes
		}
		number := c.ix.registry.TypeNumber(typ.Type)
		ofTypes[number], numbers = append(ofTypes[number], asked[i].terms...), append(numbers, number)
	}
	return columns, numbers
}

// denied is united for alternatives that each ask for nothing but that a row has none of some terms of one type: a row is asked for those of its own type alone.
func (c *compiler) denied(e search.Or, parts []string, asked []termsOf, n int, x string) string {
	if len(parts) < 2 || x != "x" || !c.unites() {
		return ""
	}
	columns, numbers := c.termsByType(e, parts, asked, " AND NOT (", "))")
	if numbers == nil {
		return ""
	}
	c.args = c.args[:n]
	_, row := c.unite(columns)
	return "(x.type = ANY(" + c.arg(numbers, "smallint[]") + ") AND NOT " + row + ")"
}

// valued is one condition for alternatives that each ask for values of one type; "" where they ask for anything else. A parameter of a table of values is of one
// type: what has the values is found once for all types, where each row of all of them was asked whether it is in the set of its type.
func (c *compiler) valued(e search.Or, parts []string, x string) string {
	if len(parts) < 2 || x != "x" || !c.unites() || c.joins >= maxJoins {
		return ""
	}
	var types, sets, rows []string
	for i, one := range e {
		and, ok := one.(search.And)
		if !ok || len(and) != 2 {
			return ""
		}
		if _, ok := and[0].(*search.IsType); !ok {
			return ""
		}
		typ, set, _ := strings.Cut(strings.TrimSuffix(parts[i], ")"), " AND ")
		at := slices.Index(c.perRow, set)
		query, plain := strings.CutPrefix(set, "x.rk IN (")
		if at < 0 || at%2 != 0 || !plain {
			return ""
		}
		types, sets = append(types, strings.TrimPrefix(typ, "(x.type = ")), append(sets, strings.TrimSuffix(query, ")"))
		rows = append(rows, typ+" AND "+c.perRow[at+1]+")")
	}
	c.joins++
	cond := "(x.rk IN (" + strings.Join(sets, " UNION ALL ") + ") AND x.type + 0 = ANY(ARRAY[" + strings.Join(types, ", ") + "]))"
	row := "(" + strings.Join(rows, " OR ") + ")"
	c.perRow, c.closer = append(c.perRow, cond, row), append(c.closer, cond, row)
	return cond
}

// unites says whether the rows x that the search returns are told by their type which of many terms to look at.
func (c *compiler) unites() bool { return !c.inside && c.access != nil && !c.apartByType }

// union asks the rows x for the terms of their type.
func (c *compiler) union(columns map[string][][]int64) string {
	cond, row := c.unite(columns)
	c.unions, c.closer = append(c.unions, union{cond, row, columns}), append(c.closer, cond, row)
	return cond
}

// fewNamed is up to how many ids of any type are looked for by the keys that they would have in each type.
const fewNamed = 16

// named asks for many ids of any type; "" for other alternatives. Of all types most have nothing: those that do are found first, and then what they have by an
// index of type and id.
func (c *compiler) named(e search.Or, x string) string {
	if x != "x" || c.inside || c.access == nil || !c.access.everything {
		return ""
	}
	var values []search.Value
	numbers := make([]int16, 0, len(e))
	for i, one := range e {
		and, ok := one.(search.And)
		if !ok || len(and) != 2 {
			return ""
		}
		typ, is := and[0].(*search.IsType)
		m, ok := and[1].(*search.Match)
		if !is || !ok || m.Param.Code != "_id" || m.Modifier != "" || len(m.Values) <= fewNamed ||
			i > 0 && !slices.EqualFunc(values, m.Values, func(a, b search.Value) bool {
				return a.Code == b.Code && a.System == b.System && a.HasSystem == b.HasSystem
			}) {
			return ""
		}
		values, numbers = m.Values, append(numbers, c.ix.registry.TypeNumber(typ.Type))
	}
	ids := []string{}
	for _, v := range values {
		if (!v.HasSystem || v.System == "") && fhir.ValidID(v.Code) {
			ids = append(ids, v.Code)
		}
	}
	return fmt.Sprintf("x.rk = ANY(ARRAY("+sqlOfIDs+"))", c.arg(numbers, "smallint[]"), c.arg(ids, "text[]"))
}

// sqlOfIDs goes from type to type. What is deleted has a row there, too, so that a later page finds what it was.
const sqlOfIDs = `WITH RECURSIVE t AS ((SELECT r.type_number AS type FROM resource r ORDER BY r.type_number LIMIT 1)
UNION ALL SELECT (SELECT r.type_number FROM resource r WHERE r.type_number > t.type ORDER BY r.type_number LIMIT 1) FROM t WHERE t.type IS NOT NULL)
SELECT i.rk FROM t, LATERAL (SELECT r.rk FROM resource r WHERE r.type_number = t.type AND t.type = ANY(%s) AND r.id = ANY(%s) OFFSET 0) i`

// union is a condition on terms of several types, its part that is asked of a row, and the terms of each, by column and number of the type.
type union struct {
	cond, row string
	columns   map[string][][]int64
}

// unite writes a union, and its part that is asked of a row.
func (c *compiler) unite(columns map[string][][]int64) (cond, row string) {
	var find, tell []string
	for _, column := range []string{"x.tokens", "x.refs"} {
		ofTypes := columns[column]
		if ofTypes == nil {
			continue
		}
		var list []int64
		begins := make([]int32, 0, len(ofTypes)) // of each type from 1 on, and behind the last
		for _, terms := range ofTypes[1:] {
			begins, list = append(begins, int32(len(list)+1)), append(list, terms...)
		}
		terms, at := c.arg(list, "bigint[]"), c.arg(append(begins, int32(len(list)+1)), "integer[]")
		find = append(find, column+" && "+terms)
		tell = append(tell, fmt.Sprintf("%s && (%s)[(%s)[x.type]:(%s)[x.type + 1] - 1]", column, terms, at, at))
	}
	row = "(" + strings.Join(tell, " OR ") + ")"
	return "((" + strings.Join(find, " OR ") + ") AND " + row + ")", row
}

// of are the terms of some types.
func (u union) of(types []int16) map[string][][]int64 {
	columns := map[string][][]int64{}
	for column, ofTypes := range u.columns {
		columns[column] = make([][]int64, len(ofTypes))
		for _, number := range types {
			columns[column][number] = ofTypes[number]
		}
	}
	return columns
}

// newestTypes are the numbers of the types that a search of several may find, where it begins with what is newest and each row tells by itself whether
// it matches; nil for other searches. What is rare is collected, and so is what lies in a compartment.
func (p *searchPlan) newestTypes(q *search.Query) (numbers []int16) {
	by := p.order.keys
	if len(q.Types) == 1 || q.Contained != "" || p.sparse || len(by) != 1 || !by[0].notNull || by[0].column == "" || p.rare(q) ||
		slices.ContainsFunc(q.Where, func(e search.Expr) bool { return !ofRow(e) }) {
		return nil
	}
	types := q.Types
	if types == nil {
		types = p.c.ix.registry.Schema().Resources
	}
	for _, typ := range types {
		if !slices.ContainsFunc(q.Where, func(e search.Expr) bool { return isNever(within(e, typ)) }) {
			numbers = append(numbers, p.c.ix.registry.TypeNumber(typ))
		}
	}
	slices.Sort(numbers)
	return slices.Compact(numbers)
}

// ofRow says whether a condition is on what a resource has itself.
func ofRow(e search.Expr) bool {
	another := func(e search.Expr) bool { return !ofRow(e) }
	switch e := e.(type) {
	case search.And:
		return !slices.ContainsFunc(e, another)
	case search.Or:
		return !slices.ContainsFunc(e, another)
	case search.Not:
		return ofRow(e.Expr)
	case *search.Match:
		return e.Param.Kind != search.Reference || e.Modifier != "above" && e.Modifier != "below"
	case *search.Missing, *search.IsType:
		return true
	}
	return false
}

// amongNewest looks for a page of a search of several types among the newest rows. full says that it found one. Where the newest of all types
// have too few matches, those types whose own newest have none are left out, and what they have is collected, where it is little: there may be very
// many newer resources of a type that never matches, such as visits to come. Which types these are need not hold for the page, which is right either way.
func (p *searchPlan) amongNewest(ctx context.Context, run *runner, q *search.Query, mark *SearchMark, limit int) (rows []found, full bool, err error) {
	types := p.newestTypes(q)
	if len(types) == 0 {
		return nil, false, nil
	}
	if run.many { // looked for before the transaction began
		return nil, false, nil
	}
	look := func(types, others []int16, until *SearchMark, look int) (bool, error) {
		rows, err = p.run(ctx, run, p.newestOf(types, others, mark, until, limit, look), limit)
		return err != nil || unchanged(rows) >= limit, err
	}
	if full, err = look(types, nil, nil, fewNewest); full {
		return rows, full, err
	}
	wordsAlone := len(p.c.words) > 0 && len(p.c.unions) == 0
	if wordsAlone || p.c.texts { // those that are rare are found at once
		p.named = p.namesBefore()
		if run.few, err = p.collects(ctx, run, q); run.few || err != nil {
			return nil, false, err
		}
		run.many = false
	}
	var some []int16
	if err = p.tell(ctx, run, p.newestHave(types, mark), func(rows pgx.Rows) (err error) {
		some, err = pgx.CollectRows(rows, pgx.RowTo[int16])
		return err
	}); err != nil || len(some) == 0 {
		return nil, false, err
	}
	others := slices.DeleteFunc(slices.Clone(types), func(number int16) bool { return slices.Contains(some, number) })
	if len(others) > 0 && wordsAlone { // no index tells what of a type has a word: all that stands before the page's end is asked
		if full, err = look(some, nil, nil, probeRows); err != nil || !full {
			return nil, false, err
		}
		full, err = look(types, nil, &rows[len(rows)-1].mark, manyNewest)
		return rows, full, err
	}
	if len(others) > 0 {
		var n int
		if err = p.tell(ctx, run, p.haveSome(others), func(rows pgx.Rows) (err error) {
			n, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int])
			return err
		}); err != nil || n > fewSorted {
			return nil, false, err
		}
	}
	full, err = look(some, others, nil, probeRows)
	return rows, full, err
}

// tell runs a statement over the tables as the first page saw them.
func (p *searchPlan) tell(ctx context.Context, run *runner, s statement, read func(pgx.Rows) error) error {
	if p.past != nil {
		s = p.past.tables(s)
	}
	return query(ctx, run, false, s.sql, s.args, read, nil)
}

// newestOf looks at so many rows of some types in the order asked for. Each type has its first by the index, and of those the first are the first of
// all. Of others only what matches is among the rows.
// until is a place that nothing much behind needs to be looked at; nil for none.
func (p *searchPlan) newestOf(types, others []int16, mark, until *SearchMark, limit, look int) statement {
	c := p.compiler(len(p.c.args))
	name := func(column string) func(int) string { return func(int) string { return column } }
	window := fmt.Sprintf("SELECT w.rk, w.k0 FROM unnest(%s) AS t(type), LATERAL (SELECT x.rk, %s AS k0 FROM (%s) x) w",
		c.arg(types, "smallint[]"), p.order.keys[0].sql, p.firstOfType(c, mark, until, look))
	if len(others) > 0 {
		by := p.order.keys[0].sql
		window = fmt.Sprintf("(%s) UNION ALL (SELECT x.rk, %s FROM search_index x WHERE %s AND %s)", window, by, p.ofTypes(c, others), p.after(c, mark, name(by), "x.rk"))
	}
	window = fmt.Sprintf("SELECT w.rk, w.k0 FROM (%s) w ORDER BY %s LIMIT %d", window, p.orderBy(name("w.k0"), "w.rk"), look)
	found := p.fetch(c, fmt.Sprintf("SELECT w.rk, w.k0 FROM (%s) w, LATERAL (SELECT FROM search_index x WHERE x.rk = w.rk AND %s OFFSET 0) x ORDER BY %s LIMIT %d",
		window, p.byRow(p.closer("")), p.orderBy(name("w.k0"), "w.rk"), limit))
	found.once = p.before == "" // the rows are known by their keys
	return found
}

// newestHave asks which types have a match among their first rows.
func (p *searchPlan) newestHave(types []int16, mark *SearchMark) statement {
	c := p.compiler(len(p.c.args))
	sql := fmt.Sprintf("SELECT t.type FROM unnest(%s) AS t(type) WHERE EXISTS (SELECT FROM (%s) x WHERE %s)%s",
		c.arg(types, "smallint[]"), p.firstOfType(c, mark, nil, fewNewest), p.byRow(p.closer("")), p.namesBefore())
	return statement{sql: sql, args: c.args}
}

// haveSome counts the matches of some types, up to more than are sorted at once.
func (p *searchPlan) haveSome(types []int16) statement {
	c := p.compiler(p.conditions)
	sql := fmt.Sprintf("SELECT count(*) FROM (SELECT FROM search_index x WHERE %s%s LIMIT %d) y", p.ofTypes(c, types), p.namesBefore(), fewSorted+1)
	return statement{sql: sql, args: c.args}
}

// eachType is a table x of the matches, type by type of which there is anything: with the terms of one PostgreSQL need not compare each row
// with those of all. bound is the end of its query of a type.
func (p *searchPlan) eachType(c *compiler, where, bound string) string {
	for _, u := range p.c.unions {
		where = strings.ReplaceAll(where, u.cond, strings.ReplaceAll(u.row, "x.type", "t.type"))
	}
	return fmt.Sprintf("(SELECT type FROM unnest(%s) AS t(type) WHERE (SELECT x.type FROM search_index x WHERE x.type = t.type ORDER BY x.date_low DESC, x.rk LIMIT 1) IS NOT NULL) t, "+
		"LATERAL (SELECT x.* FROM search_index x WHERE x.type + 0 = t.type AND %s %s) x", c.arg(p.types, "smallint[]"), where, bound)
}

// firstOfType are the first rows behind mark of a type t, up to those with the key of until.
func (p *searchPlan) firstOfType(c *compiler, mark, until *SearchMark, look int) string {
	by := p.order.keys[0]
	key := func(int) string { return by.sql }
	bound := ""
	if until != nil {
		op := "<="
		if by.descending {
			op = ">="
		}
		bound = fmt.Sprintf(" AND %s %s %s::%s", by.sql, op, c.arg(*until.Keys[0], "text"), by.typ)
	}
	return fmt.Sprintf("SELECT x.* FROM search_index x WHERE x.type = t.type%s AND %s ORDER BY %s LIMIT %d", bound, p.after(c, mark, key, "x.rk"), p.orderBy(key, "x.rk"), look)
}

// ofTypes is the condition on matches of some types, of which the terms alone are looked for.
func (p *searchPlan) ofTypes(c *compiler, types []int16) string {
	where := p.where
	for _, u := range p.c.unions {
		cond, _ := c.unite(u.of(types))
		where = strings.ReplaceAll(where, u.cond, cond)
	}
	// The conditions are there once more only for their arguments, which must have a place.
	return fmt.Sprintf("x.type + 0 = ANY(%s) AND %s AND (true OR EXISTS (SELECT FROM search_index x WHERE %s))", c.arg(types, "smallint[]"), where, p.where)
}

// byRow is a condition that looks for the values and the words of each row, and not for all that have them.
func (p *searchPlan) byRow(where string) string {
	return strings.NewReplacer(slices.Concat(p.c.perRow, p.c.words)...).Replace(p.rowwise(where))
}
