package storage

import "fmt"

// lyingIn is a condition that something is a member of a patient's compartment, of many types, as all of it, in two parts that have
// nothing in common: alone is what lies in this compartment and in no other, which nearly all does, and rest what else there is.
type lyingIn struct{ all, alone, rest string }

// ofRecord finds the condition of a search that asks for nothing but the record of a patient.
func (p *searchPlan) ofRecord(conditions []string) *lyingIn {
	if !p.alone || !p.c.access.everything || p.c.was || p.c.others != "" {
		return nil
	}
	for i := range p.c.lying {
		if l := &p.c.lying[i]; l.all == conditions[0] && p.where == l.all {
			return l
		}
	}
	return nil
}

// fewOfRecord is how many rows of a record are found by their keys alone, which is as fast.
const fewOfRecord = 50

// joinOfRecord finds a resource by the record that it lies in alone: those of one record are neighbours there. What is not found so is found by its key;
// both are the same row.
const joinOfRecord = `CROSS JOIN LATERAL (
  SELECT ` + versionColumns + ` FROM resource r WHERE cardinality(r.compartments) = 1 AND r.compartments[1] = m.record AND r.rk + 0 = m.rk
  UNION ALL SELECT ` + versionColumns + ` FROM resource r WHERE r.rk = m.rk LIMIT 1) r`

// inRecord reads what lies in one compartment alone from an index in the order of the main date, until a page is full. All of the rest is found, and what is
// first of both is the page.
func (p *searchPlan) inRecord(mark *SearchMark, limit int) statement {
	c := p.compiler(len(p.c.args))
	key := func(int) string { return "x.date_low" }
	alone := fmt.Sprintf("SELECT x.rk, x.date_low AS k0, x.compartments[1] AS record FROM search_index x WHERE %s AND %s ORDER BY %s LIMIT %d",
		p.lying.alone, p.after(c, mark, key, "x.rk"), p.orderBy(key, "x.rk"), limit)
	rest := p.collect("search_index", p.lying.rest, p.after(c, mark, p.column, "rk"), limit)
	inner := fmt.Sprintf("SELECT * FROM ((%s) UNION ALL (SELECT rk, k0, NULL FROM (%s) y)) a ORDER BY %s LIMIT %d", alone, rest, p.orderBy(p.column, "rk"), limit)
	if p.before != "" || limit <= fewOfRecord { // what has changed since the first page has a key alone
		return p.fetch(c, inner)
	}
	return p.fetchBy(c, inner, joinOfRecord, "", 0)
}
