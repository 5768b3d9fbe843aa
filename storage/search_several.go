package storage

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"kiln/fhir/search"
)

// This file has searches of several types. No index has several types in one order, but each has its own: a page is the first of what each
// type has.

// merges says whether each type has its matches in the order of the search. What lies in a compartment is collected, as long as no
// contents are read for the order; so is what who sees a part has of any type, since counting it takes longer.
func (p *searchPlan) merges(q *search.Query) bool {
	if (slices.ContainsFunc(q.Where, areMembers) || q.Types == nil && !p.c.access.everything) && !slices.ContainsFunc(p.order.keys, func(k sortKey) bool { return k.content != nil }) {
		return false
	}
	by := p.order.keys[0]
	return by.content != nil || by.column != "" || by.typ == "text"
}

// findSeveral is find for a search of several types.
func (p *searchPlan) findSeveral(ctx context.Context, on *runner, q *search.Query, mark *SearchMark, limit int) (places []SearchMark, end *SearchMark, err error) {
	types, err := p.present(ctx, on, q)
	if err != nil {
		return nil, nil, err
	}
	scarce := false
	if !on.access.everything {
		if scarce, err = on.treatsFew(ctx); err != nil {
			return nil, nil, err
		}
	}
	var ends []SearchMark
	for _, typ := range types {
		part, err := p.part(ctx, on, q, typ, mark)
		if err != nil {
			return nil, nil, err
		}
		w := &grouping{ctx: ctx, on: on, bounds: on.store.sorting, texts: max(on.store.sorting.texts/len(types), 1)}
		part.scarce = scarce && part.bounded
		n, err := part.countSome(ctx, on, w.bounds.atOnce+1)
		if err != nil {
			return nil, nil, err
		}
		var found []SearchMark
		if n <= int64(w.bounds.atOnce) {
			found, err = w.leaf(part, mark, limit)
		} else {
			found, err = w.places(part, mark, limit)
		}
		if err != nil {
			return nil, nil, err
		}
		if places = append(places, found...); w.cut && len(found) < limit {
			ends = append(ends, *part.behind(w.end))
		}
	}
	if len(ends) == 0 {
		return places, nil, nil
	}
	if ends, err = p.inOrder(ctx, on, ends, nil); err != nil { // behind the first of them something may be missing
		return nil, nil, err
	}
	places, err = p.inOrder(ctx, on, places, &ends[0])
	return places, &ends[0], err
}

// part is the plan of one of the types.
func (p *searchPlan) part(ctx context.Context, on *runner, q *search.Query, typ string, mark *SearchMark) (*searchPlan, error) {
	one := *q
	one.Types, one.Where = []string{typ}, nil
	for _, e := range q.Where {
		one.Where = append(one.Where, within(e, typ))
	}
	c := compiler{merged: true}
	if p.past != nil && p.past.elsewhere {
		c.others = "then_"
	}
	unchanged := ""
	if p.before != "" { // what has changed comes with the page
		unchanged = "x.rk NOT IN (SELECT unnest(" + c.arg(p.past.changed, "bigint[]") + "))"
	}
	part, err := on.store.planFor(ctx, on, &one, c)
	if err != nil {
		return nil, err
	}
	if part.past = p.past; unchanged != "" {
		part.unchanged, part.codeOnly = unchanged, false
		part.where += " AND " + unchanged
	}
	if mark != nil && mark.Backward {
		part.order.reverse()
	}
	return part, nil
}

// within is what a condition asks of resources of one type: a search of any type has an alternative for each.
func within(e search.Expr, typ string) search.Expr {
	switch e := e.(type) {
	case *search.IsType:
		if e.Type == typ {
			return search.And{}
		}
		return search.Or{}
	case search.And:
		parts, settled := partsWithin(e, typ, isNever, isAlways)
		switch {
		case settled:
			return search.Or{}
		case len(parts) == 1:
			return parts[0]
		}
		return search.And(parts)
	case search.Or:
		if areMembers(e) {
			return e
		}
		parts, settled := partsWithin(e, typ, isAlways, isNever)
		switch {
		case settled:
			return search.And{}
		case len(parts) == 1:
			return parts[0]
		}
		return search.Or(parts)
	case search.Not:
		return search.Not{Expr: within(e.Expr, typ)}
	}
	return e
}

// partsWithin are the parts of a condition within a type, without those that add nothing; settled says that one of them decides it alone.
func partsWithin(list []search.Expr, typ string, decides, addsNothing func(search.Expr) bool) (parts []search.Expr, settled bool) {
	for _, one := range list {
		if one = within(one, typ); decides(one) {
			return nil, true
		} else if !addsNothing(one) {
			parts = append(parts, one)
		}
	}
	return parts, false
}

// isNever and isAlways tell the conditions that nothing meets, and that everything does: no alternatives, and nothing asked.
func isNever(e search.Expr) bool  { or, is := e.(search.Or); return is && len(or) == 0 }
func isAlways(e search.Expr) bool { and, is := e.(search.And); return is && len(and) == 0 }

// sqlTypes goes from type to type.
const sqlTypes = `WITH RECURSIVE t AS ((SELECT x.type FROM search_index x ORDER BY x.type LIMIT 1)
UNION ALL SELECT (SELECT x.type FROM search_index x WHERE x.type > t.type ORDER BY x.type LIMIT 1) FROM t WHERE t.type IS NOT NULL)
SELECT type FROM t WHERE type IS NOT NULL`

// present are the types to look at: those that there is anything of, where any is meant.
func (p *searchPlan) present(ctx context.Context, on *runner, q *search.Query) (types []string, err error) {
	if q.Types != nil {
		types = slices.Sorted(slices.Values(q.Types))
		return slices.Compact(types), nil
	}
	registry := p.c.ix.registry
	if !on.access.everything { // going from type to type would go through all that others have
		return slices.DeleteFunc(slices.Clone(registry.Schema().Resources), func(t string) bool { return on.access.reach[registry.TypeNumber(t)] == nil }), nil
	}
	var numbers []int16
	err = on.rows(ctx, func(rows pgx.Rows) (err error) {
		numbers, err = pgx.CollectRows(rows, pgx.RowTo[int16])
		return err
	}, sqlTypes)
	for _, t := range registry.Schema().Resources {
		if slices.Contains(numbers, registry.TypeNumber(t)) {
			types = append(types, t)
		}
	}
	return types, err
}
