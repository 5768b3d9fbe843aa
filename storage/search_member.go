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

// inRecord reads what lies in one compartment alone from an index in the order of the main date, until a page is full. All of the rest is found, and what is
// first of both is the page.
func (p *searchPlan) inRecord(mark *SearchMark, limit int) statement {
	c := p.compiler(len(p.c.args))
	key := func(int) string { return "x.date_low" }
	alone := fmt.Sprintf("SELECT x.rk, x.date_low AS k0 FROM search_index x WHERE %s AND %s ORDER BY %s LIMIT %d",
		p.lying.alone, p.after(c, mark, key, "x.rk"), p.orderBy(key, "x.rk"), limit)
	rest := p.collect("search_index", p.lying.rest, p.after(c, mark, p.column, "rk"), limit)
	return p.fetch(c, fmt.Sprintf("SELECT * FROM ((%s) UNION ALL (%s)) a ORDER BY %s LIMIT %d", alone, rest, p.orderBy(p.column, "rk"), limit))
}
