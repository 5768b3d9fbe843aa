package storage

import (
	"fmt"
	"slices"
	"strings"

	"kiln/fhir/search"
)

// This file has searches of several types by who sees little of some. What lies in the compartments that the caller reaches is found by them, and each row asked whether
// it matches: the terms of all types would find what others have too. Of the types that belong to nobody the terms are looked for, of these types alone. What of
// all this is visible, the views say.

// parted are the types of a search by how what the caller may see of them is found.
type parted struct {
	// near are those of which something lies in the compartments that the caller reaches, rest those of which there is something else. A type may be in both.
	near, rest []int16
}

// partsOf tells the types of a search apart; nil where one condition does for all. few says that few are treated: with more of them the index of compartments
// compares each row with all.
func (p *searchPlan) partsOf(q *search.Query, few bool) *parted {
	if !p.sparse || q.Contained != "" || p.c.inside || p.rare(q) || slices.ContainsFunc(q.Where, func(e search.Expr) bool { return !ofRow(e) }) {
		return nil
	}
	a, is := p.c.access, parted{}
	for n, grants := range a.reach {
		if q.Types != nil && !slices.ContainsFunc(q.Types, func(t string) bool { return p.c.ix.registry.TypeNumber(t) == n }) {
			continue
		}
		lies := func(g grant) bool { return g.reach == search.ReachOwn || g.reach == search.ReachTreated }
		if slices.ContainsFunc(grants, lies) && !slices.ContainsFunc(grants, func(g grant) bool { return g.reach == search.ReachAny }) {
			if a.treats(n) && !few {
				return nil
			}
			is.near = append(is.near, n)
		}
		if slices.ContainsFunc(grants, func(g grant) bool { return !lies(g) }) {
			is.rest = append(is.rest, n)
		}
	}
	slices.Sort(is.near)
	slices.Sort(is.rest)
	return &is
}

// rows is a query of the matches as rows of search_index. It goes on behind the arguments of c.
func (is *parted) rows(p *searchPlan, c *compiler) string {
	var parts []string
	reached := "'{}'"
	if len(is.near) > 0 {
		reached = c.reached(is.near)
		parts = append(parts, fmt.Sprintf("SELECT x.* FROM search_index x WHERE x.compartments && (%s) AND x.type + 0 = ANY(%s) AND %s", reached, c.arg(is.near, "smallint[]"), p.byRow(p.closer(""))))
	}
	if len(is.rest) > 0 {
		sql := "SELECT x.* FROM search_index x WHERE "
		if len(p.c.unions) > 0 {
			sql += p.ofTypes(c, is.rest)
		} else {
			sql += fmt.Sprintf("x.type = ANY(%s) AND %s", c.arg(is.rest, "smallint[]"), p.where)
		}
		if both := slices.DeleteFunc(slices.Clone(is.near), func(n int16) bool { return !slices.Contains(is.rest, n) }); len(both) > 0 { // what the first part has not
			sql += fmt.Sprintf(" AND (x.type <> ALL(%s) OR x.compartments = '{}' OR x.rk = %s AND NOT x.compartments && (%s))", c.arg(both, "smallint[]"), c.arg(c.access.user, "bigint"), reached)
		}
		parts = append(parts, sql)
	}
	return strings.Join(parts, "\nUNION ALL ")
}

// reached is an array of the compartments that the caller reaches of some types: see nearby, which is of one.
func (c *compiler) reached(types []int16) string {
	if !slices.ContainsFunc(types, c.access.treats) {
		return c.arg(c.access.patients, "bigint[]")
	}
	return "ARRAY(SELECT DISTINCT t.patient FROM visible.treated t) || " + c.arg(slices.Concat(c.access.patients, c.access.self), "bigint[]")
}
