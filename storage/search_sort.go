package storage

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"kiln/fhir"
	"kiln/fhir/search"
)

// sortOrder is what matches are ordered by. The row key comes last, so that the order is total.
type sortOrder struct {
	keys []sortKey
	// rowDescending is the direction of the row key.
	rowDescending bool
	// indexed says that an index has this order.
	indexed bool
	// side is the table of values that has the order, where search_index has not.
	side *sideOrder
	// dated is set where the order is that of the main date going up: what has none must be passed over.
	dated bool
}

type sortKey struct {
	sql, typ   string
	descending bool
	// nullsFirst is set only while paging backward: missing values are last otherwise.
	nullsFirst bool
	// notNull spares the comparisons with missing values.
	notNull bool
	// content is the parameter of a key that is read from the resource itself; nil where a table of the index has it.
	content *paramPlan
	// column is the one of search_index that has the key in order, and side the table of values that has; zero for none.
	column string
	side   *sideOrder
	// dear is the code of a parameter whose value each match must be asked for, which is for so many at most; "" for none.
	dear string
}

// MaxSortedByContent is how many matches are sorted by a distance, or at once by a code or a reference: see search_group.go.
const MaxSortedByContent = 100_000

// sortable fails where the search is sorted by such a key and has more matches than that. Later pages are of one that has not.
//
// Errors: TooCostly.
func (p *searchPlan) sortable(ctx context.Context, run *runner, q *search.Query) error {
	if p.past != nil || p.rare(q) || p.unsparing {
		return nil
	}
	return p.fewEnough(ctx, run)
}

// fewEnough is sortable for any page.
func (p *searchPlan) fewEnough(ctx context.Context, run *runner) error {
	by := slices.IndexFunc(p.order.keys, func(k sortKey) bool { return k.dear != "" })
	if by < 0 {
		return nil
	}
	most := run.store.sorting.most
	n, err := p.count(ctx, run, most+1)
	if err == nil && n > int64(most) {
		how := "narrow the search, for instance by patient, code or date"
		if p.order.keys[by].content == nil {
			how = "ask for a smaller distance"
		}
		err = fhir.NewError(fhir.TooCostly, fhir.CodeTooCostly, fmt.Sprintf("More than %d resources match, which is too many to sort by %q; %s.", most, p.order.keys[by].dear, how))
	}
	return err
}

func (o *sortOrder) reverse() {
	o.rowDescending = !o.rowDescending
	o.keys = slices.Clone(o.keys)
	for i := range o.keys {
		o.keys[i].descending = !o.keys[i].descending
		o.keys[i].nullsFirst = !o.keys[i].nullsFirst
	}
}

func (p *searchPlan) sort(q *search.Query) error {
	one := len(q.Types) == 1 && !p.c.merged
	newest := sortKey{sql: "x.date_low", typ: "timestamptz", descending: true, notNull: true, column: "x.date_low"}
	if len(q.Sort) == 0 {
		// Newest first by the type's main date: what people expect of a list, and an index has it.
		p.order.indexed = one
		p.order.keys = []sortKey{newest}
		return nil
	}
	types := q.Types
	if types == nil {
		types = p.c.ix.registry.Schema().Resources
	}
	for i, k := range q.Sort {
		key := sortKey{descending: k.Descending, typ: "text"}
		if !one && k.Param.Code == search.MainDate {
			if key.sql, key.typ, key.notNull = "x.date_low", "timestamptz", k.Descending; !k.Descending {
				key.sql = "CASE WHEN x.date_high > '-infinity' THEN x.date_low END"
			}
			key.column = "x.date_low"
			p.order.keys = append(p.order.keys, key)
			continue
		}
		switch k.Param.Code {
		case "_lastUpdated":
			key.sql, key.typ, key.notNull = "x.last_updated", "timestamptz", true
			key.column = key.sql
			if i == 0 {
				p.order.indexed, p.order.rowDescending = one && len(q.Sort) == 1, k.Descending
			}
		case "_id":
			if key.sql, key.notNull = "(SELECT r.id FROM resource r WHERE r.rk = x.rk)", true; p.c.inside {
				key.sql = "x.id"
			}
			if len(q.Types) == 1 && (p.c.access.everything || p.merged) { // who sees few would go through what others see
				number := p.c.ix.registry.TypeNumber(q.Types[0])
				key.side = &sideOrder{table: "resource", column: "id", which: fmt.Sprintf("s.type_number = %d", number), unique: true, highest: k.Descending}
			}
			if one && i == 0 && (q.Contained == "" || len(q.Sort) == 1) && key.side != nil {
				p.order.side = key.side
				p.order.rowDescending = k.Descending
			}
			if p.order.keys = append(p.order.keys, key); one && q.Contained == "" { // whatever comes behind it orders nothing
				return nil
			}
			continue
		default:
			if k.Param.Kind == search.Special { // near; one of that name may be of another kind
				key.sql, key.typ, key.dear = p.c.nearest(k.From, "x"), "double precision", k.Param.Code
				break
			}
			var plan *paramPlan
			var params []int32
			for _, typ := range types { // of several types only the common parameters, which differ in nothing but the key
				var err error
				if plan, err = p.c.param(typ, k.Param.Code); err != nil {
					return err
				}
				params = append(params, int32(plan.def.Key))
			}
			p.paramKey(&key, plan, params)
			single := one && len(q.Sort) == 1
			switch {
			case plan.mainDate && k.Descending:
				key.sql, key.notNull, key.column = "x.date_low", true, "x.date_low"
				p.order.indexed = single
			case plan.mainDate:
				p.order.rowDescending, p.order.dated = single, single
			case single && !plan.identifies:
				p.order.side = sideOrderOf(plan, k.Descending)
				p.order.rowDescending = p.order.side != nil && k.Descending
			}
		}
		p.order.keys = append(p.order.keys, key)
	}
	if last := p.order.keys[len(p.order.keys)-1]; q.Contained == "" && (last.content != nil || last.side != nil && last.side.table == "search_identifier") { // of one code the newest first
		p.order.keys = append(p.order.keys, newest)
	}
	return nil
}

// paramKey is the value that a parameter sorts a resource by: its lowest going up, its highest going down.
func (p *searchPlan) paramKey(key *sortKey, plan *paramPlan, params []int32) {
	best := "min"
	if key.descending {
		best = "max"
	}
	from := func(column, table string) string {
		var which string
		if len(params) == 1 {
			which = "s.param = " + p.c.arg(params[0], "integer")
		} else {
			which = "s.param = ANY(" + p.c.arg(params, "integer[]") + ")"
		}
		return fmt.Sprintf("(SELECT %s(s.%s) FROM %s s WHERE s.rk = x.rk AND %s)", best, column, p.c.table(table, "x"), which)
	}
	if p.c.access != nil && p.c.access.alone && plan.def.Base == visitType && aboutOthers(plan.def.Code, wholeExpression(plan.def)) {
		key.sql = `NULL::text COLLATE "C"` // an order by who takes part would tell of others
		return
	}
	switch plan.def.Type {
	case search.Date:
		key.typ = "timestamptz"
		if plan.mainDate {
			key.sql, key.column = "CASE WHEN x.date_high > '-infinity' THEN x.date_low END", "x.date_low"
		} else {
			key.sql, key.side = from("low", "search_date"), sideOrderOf(plan, key.descending)
		}
	case search.Number, search.Quantity:
		key.sql, key.typ, key.side = from("low", "search_number"), "numeric", sideOrderOf(plan, key.descending)
	case search.String, search.URI:
		key.sql, key.side = from("value", "search_string"), sideOrderOf(plan, key.descending)
	default:
		if plan.identifies && p.c.ix.complete && !p.c.ix.building[plan.def.Key] && !p.c.inside {
			key.sql, key.side = from("value", "search_identifier"), sideOrderOf(plan, key.descending)
			break
		}
		key.content, key.dear = plan, plan.def.Code
		if p.c.inside {
			key.sql = fmt.Sprintf(`(SELECT left(%s(v.value #>> '{}' COLLATE "C"), %d) FROM %s r, jsonb_array_elements(r.content->'contained') AS i(content), unnest(%s) AS path, jsonb_path_query(i.content, path::jsonpath) AS v(value) WHERE r.rk = x.container AND i.content->>'id' = x.id)`,
				best, MaxStringIndexed, p.c.table("resource", "x"), p.c.arg(jsonPaths(p.c.ix.registry.Schema(), plan.def), "text[]"))
			break
		}
		key.sql = fmt.Sprintf(`(SELECT left(%s(v.value #>> '{}' COLLATE "C"), %d) FROM %s r, unnest(%s) AS path, jsonb_path_query(r.content, path::jsonpath) AS v(value) WHERE r.rk = x.rk)`,
			best, MaxStringIndexed, p.c.table("resource", "x"), p.c.arg(jsonPaths(p.c.ix.registry.Schema(), plan.def), "text[]"))
	}
	key.sql += ` COLLATE "C"`
	if key.typ != "text" {
		key.sql = strings.TrimSuffix(key.sql, ` COLLATE "C"`)
	}
}
