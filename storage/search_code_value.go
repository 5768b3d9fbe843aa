package storage

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"kiln/fhir"
	"kiln/fhir/search"
)

// mainValue is what search_code.value has of a resource: its value as a number where it has one, NaN where it has several
// or a range, nil for none.
func (row *indexRow) mainValue(param int32) *float64 {
	var value *float64
	for i := range row.numbers {
		n := &row.numbers[i]
		if n.param != param {
			continue
		}
		f, err := strconv.ParseFloat(n.low, 64)
		if value != nil || err != nil || n.low != n.high || math.Abs(f) >= 1e300 {
			f = math.NaN()
		}
		value = &f
	}
	return value
}

// valueRange are conditions on search_code w that a condition on the main value leads to: within is met by what may match, a little
// more and NaN always, which PostgreSQL sorts behind all numbers; surely by nothing that does not, nil where the number alone does not tell.
type valueRange struct{ within, surely func(*compiler) string }

// byValue is the range of a condition on the main value, nil where there is none.
func (p *searchPlan) byValue(plan *paramPlan, v search.Value) *valueRange {
	if _, _, converted := p.c.canonicalUnit(v); !plan.mainValue || converted {
		return nil
	}
	// bound is a little below the number or above it: that it is rounded to a float must not matter. No float is as large as a number may be:
	// infinity less something is NaN, which all numbers lie below.
	bound := func(d fhir.Decimal, sign float64) float64 {
		f, _ := d.Rat().Float64()
		f = max(min(f, 1e307), -1e307)
		return f + sign*(math.Abs(f)*1e-9+1e-300)
	}
	lowest, highest := math.Inf(-1), math.Inf(1)
	between := func(from, to *fhir.Decimal, wider float64) func(*compiler) string {
		low, high := lowest, highest
		if from != nil {
			low = bound(*from, -wider)
		}
		if to != nil {
			high = bound(*to, wider)
		}
		return func(c *compiler) string {
			return fmt.Sprintf("w.value BETWEEN %s AND %s", c.arg(low, "double precision"), c.arg(high, "double precision"))
		}
	}
	var from, to *fhir.Decimal
	switch v.Prefix {
	case "gt", "ge", "sa":
		from = &v.Number
	case "lt", "le", "eb":
		to = &v.Number
	case "", "eq":
		low, high := v.Number.ImpliedRange()
		from, to = &low, &high
	case "ap":
		low, high := v.Number.ApproximateRange()
		from, to = &low, &high
	default:
		return nil
	}
	within := between(from, to, 1)
	r := &valueRange{within: func(c *compiler) string { return "(" + within(c) + " OR w.value = 'NaN')" }}
	if v.Code == "" && v.System == "" {
		r.surely = between(from, to, -1)
	}
	return r
}

// listedByCode is the answer of a search for a code, and a value beside it, from rows w of search_code, which tell all that it asks for:
// no other row of the index is read. Where the number beside the code does not tell, the value itself is looked at.
func (p *searchPlan) listedByCode(c *compiler, rows string, limit int) statement {
	key := func(int) string { return "w.k0" }
	told := ""
	if p.value != nil && p.lister == nil {
		told = " AND " + p.value.within(c)
		value := strings.ReplaceAll(p.c.perRow[1], "x.rk", "w.rk")
		if p.value.surely != nil {
			value = fmt.Sprintf("CASE WHEN %s THEN true ELSE %s END", p.value.surely(c), value)
		}
		told += " AND " + value
	}
	found := p.fetchOf(c, fmt.Sprintf("SELECT w.k0, w.rk FROM (%s) w WHERE true%s ORDER BY %s LIMIT %d", rows, told, p.known().orderBy(key, "w.rk"), limit),
		"", " AND r.type_number = "+p.typeArgument, 0)
	found.once = true
	return found
}

// all collects all matches, then sorts them: those of a code and a value or a time, where the search asks for them, or a set.
func (p *searchPlan) all(mark *SearchMark, limit int) statement {
	if p.chain != nil && p.gathers() && p.alone {
		return p.gather(mark, limit)
	}
	if p.code == "" || (p.value == nil || p.lister != nil) && len(p.dates.since)+len(p.dates.low)+len(p.dates.high) == 0 {
		return p.set(mark, limit)
	}
	where, c := p.collected(len(p.c.args))
	if p.value != nil && p.lister == nil && p.listedWhole && p.before == "" && len(p.order.keys) == 1 && p.order.keys[0].sql == "x.date_low" {
		key := func(int) string { return "w.date_low" }
		return p.listedByCode(c, fmt.Sprintf("SELECT w.rk, w.date_low AS k0, w.value FROM search_code w WHERE w.term = %s AND %s AND %s",
			p.code, p.value.within(c), p.after(c, mark, key, "w.rk")), limit)
	}
	if p.value != nil && p.lister == nil && len(p.order.keys) == 1 && p.order.keys[0].sql == "x.date_low" { // the page ends the look at the rows
		key := func(column string) func(int) string { return func(int) string { return column } }
		entries := fmt.Sprintf("SELECT w.rk, w.date_low FROM search_code w WHERE w.term = %s AND %s AND %s ORDER BY %s",
			p.code, p.value.within(c), p.after(c, mark, key("w.date_low"), "w.rk"), p.orderBy(key("w.date_low"), "w.rk"))
		return p.fetch(c, fmt.Sprintf("SELECT x.rk, w.date_low AS k0 FROM (%s) w JOIN search_index x ON x.rk = w.rk WHERE %s ORDER BY %s LIMIT %d",
			entries, where, p.orderBy(key("w.date_low"), "w.rk"), limit))
	}
	of := "SELECT w.rk FROM search_code w WHERE w.term = " + p.code
	switch {
	case p.value != nil && p.lister == nil:
		of += " AND " + p.value.within(c)
	case len(p.dates.since) == 0:
		of += p.dates.bounds("w.date_low")
	default:
		of += p.dates.short("w.date_low") + " UNION ALL " + p.long()
	}
	some := "x.rk = ANY(ARRAY(" + of + ")) AND "
	return p.fetch(c, p.collect("search_index", some+where, p.after(c, mark, p.column, "rk"), limit))
}
