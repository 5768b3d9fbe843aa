package storage

import (
	"fmt"
	"math"
	"strconv"

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

// byValue is a condition on search_code w that follows from one on the main value, nil where none does. It lets a little
// more through than that, and NaN always, which PostgreSQL sorts behind all numbers.
func (p *searchPlan) byValue(plan *paramPlan, v search.Value) func(*compiler) string {
	if _, _, converted := p.c.canonicalUnit(v); !plan.mainValue || converted {
		return nil
	}
	bound := func(d fhir.Decimal, sign float64) float64 {
		f, _ := d.Rat().Float64()
		return f + sign*(math.Abs(f)*1e-9+1e-300)
	}
	low, high := math.Inf(-1), math.Inf(1)
	switch v.Prefix {
	case "gt", "ge", "sa":
		low = bound(v.Number, -1)
	case "lt", "le", "eb":
		high = bound(v.Number, 1)
	case "", "eq":
		from, to := v.Number.ImpliedRange()
		low, high = bound(from, -1), bound(to, 1)
	case "ap":
		from, to := v.Number.ApproximateRange()
		low, high = bound(from, -1), bound(to, 1)
	default:
		return nil
	}
	return func(c *compiler) string {
		return fmt.Sprintf("(w.value BETWEEN %s AND %s OR w.value = 'NaN')", c.arg(low, "double precision"), c.arg(high, "double precision"))
	}
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
	if p.value != nil && p.lister == nil && len(p.order.keys) == 1 && p.order.keys[0].sql == "x.date_low" { // the page ends the look at the rows
		key := func(column string) func(int) string { return func(int) string { return column } }
		entries := fmt.Sprintf("SELECT w.rk, w.date_low FROM search_code w WHERE w.term = %s AND %s AND %s ORDER BY %s",
			p.code, p.value(c), p.after(c, mark, key("w.date_low"), "w.rk"), p.orderBy(key("w.date_low"), "w.rk"))
		return p.fetch(c, fmt.Sprintf("SELECT x.rk, w.date_low AS k0 FROM (%s) w JOIN search_index x ON x.rk = w.rk WHERE %s ORDER BY %s LIMIT %d",
			entries, where, p.orderBy(key("w.date_low"), "w.rk"), limit))
	}
	of := "SELECT w.rk FROM search_code w WHERE w.term = " + p.code
	switch {
	case p.value != nil && p.lister == nil:
		of += " AND " + p.value(c)
	case len(p.dates.since) == 0:
		of += p.dates.bounds("w.date_low")
	default:
		of += p.dates.short("w.date_low") + " UNION ALL " + p.long()
	}
	some := "x.rk = ANY(ARRAY(" + of + ")) AND "
	return p.fetch(c, p.collect("search_index", some+where, p.after(c, mark, p.column, "rk"), limit))
}
