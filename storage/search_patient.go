package storage

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"kiln/fhir/search"
)

// This file has the searches that a page can begin with other resources of: of each patient that a chain leads to the first
// rows, and patients in the order of their keys, each found in one step among what refers to them with a code.

// chained is a condition on the patient that a resource is about.
type chained struct {
	// all is the condition as it stands among those of the search, patients a query of the patients' keys.
	all, patients string
	// named is the part of that query behind the columns, where it is one of rows s of a table of values alone; "" for others.
	named string
	where search.Expr
}

// few says whether the patients are few enough to ask each of them at once: those with a name are, those of a gender
// are not.
func (c *chained) few() bool {
	m, ok := c.where.(*search.Match)
	return ok && isName(m)
}

// isName says whether a condition looks for the text of a value: words (_text, _content) stand in no table of values.
func isName(m *search.Match) bool {
	return m.Param.Kind == search.String && m.Param.Code != "_text" && m.Param.Code != "_content"
}

// sideRows is a query of the keys that a condition on y finds in a table of values. A parameter belongs to one type, so
// whoever sees everything needs no look at the rows themselves.
func (c *compiler) sideRows(e search.Expr, where, y string) (string, bool) {
	rows, ok := strings.CutPrefix(where, y+".rk IN (SELECT s.rk ")
	if m, one := e.(*search.Match); !ok || !one || !isName(m) || c.access == nil || !c.access.everything {
		return "", false
	}
	return "SELECT DISTINCT s.rk " + strings.TrimSuffix(rows, ")"), true
}

// referring is a condition that something with a code refers to the patient.
type referring struct{ all, term string }

// throughPatients finds such conditions among those of the search.
func (p *searchPlan) throughPatients(conditions []string) {
	if p.c.others != "" || p.c.was {
		return
	}
	for i := range p.c.chained {
		if c := &p.c.chained[i]; p.chain == nil && slices.Contains(conditions, c.all) {
			p.chain = c
		}
	}
	for i := range p.c.referring {
		if r := &p.c.referring[i]; p.referrers == nil && slices.Contains(conditions, r.all) {
			p.referrers = r
		}
	}
}

// holds is a condition of which all is a part, where that part is known to hold; "" is no part. It is still there, so that its arguments
// have a place.
func holds(where, all string) string {
	if all == "" {
		return where
	}
	return strings.Replace(where, all, "(true OR "+all+")", 1)
}

// byNamed orders a search without an order of its own for what patients of a name have: patient by patient, so that a page
// ends the search, and of each the newest first. Where the table of names can be read by itself they come in its order, so that a
// page need not know all of the name.
func (p *searchPlan) byNamed(q *search.Query, conditions []string) bool {
	for i, e := range q.Where {
		h, ok := e.(*search.Chain)
		if !ok || h.Target != "Patient" || !(&chained{where: h.Where}).few() {
			continue
		}
		if plan, err := p.c.param(h.Type, h.Param.Code); err == nil && p.c.impliesPatient(h.Type, plan) {
			p.order.keys = []sortKey{{sql: "x.patient", typ: "bigint", notNull: true}, {sql: "x.date_low", typ: "timestamptz", descending: true, notNull: true}}
			for n := range p.c.chained {
				if c := &p.c.chained[n]; c.all == conditions[i] && c.named != "" && q.Contained == "" {
					name := fmt.Sprintf(`(SELECT min(s.value) %s AND s.rk = x.patient) COLLATE "C"`, c.named)
					p.order.keys = slices.Insert(p.order.keys, 0, sortKey{sql: name, typ: "text", notNull: true})
					if p.chain != nil { // another one may have come first
						p.chain = c
					}
					break
				}
			}
			return true
		}
	}
	return false
}

// inTurn says whether the order is that of byNamed.
func (p *searchPlan) inTurn() bool {
	n := len(p.order.keys)
	return n >= 2 && p.order.keys[n-2].sql == "x.patient"
}

// gathers says whether gather answers the search.
func (p *searchPlan) gathers() bool {
	return p.chain != nil && !p.bounded && (len(p.order.keys) == 1 && p.order.keys[0].sql == "x.date_low" || p.inTurn())
}

// has is a condition that patients have something of the type. Most of a name may have nothing: an index that has each patient and type
// once tells that for a third of what it takes to look for the first row. It holds no Patients, who are their own.
func (p *searchPlan) has(patient string) string {
	return fmt.Sprintf("EXISTS (SELECT FROM search_index h WHERE h.type = %s AND h.patient = %s AND h.patient <> h.rk OFFSET 0)", p.typeArgument, patient)
}

// gather takes the first rows of each patient that the chain leads to, and of those the first.
func (p *searchPlan) gather(mark *SearchMark, limit int) statement {
	c := p.compiler(len(p.c.args))
	if p.inTurn() {
		return p.turns(c, mark, limit)
	}
	key := func(int) string { return "x.date_low" }
	each := fmt.Sprintf("SELECT x.rk, x.date_low AS k0 FROM search_index x WHERE x.patient = f.rk AND %s AND %s AND %s ORDER BY %s LIMIT %d",
		p.bounds, holds(p.where, p.chain.all), p.after(c, mark, key, "x.rk"), p.orderBy(key, "x.rk"), limit)
	found := p.fetch(c, fmt.Sprintf("SELECT e.rk, e.k0 FROM (%s) f(rk), LATERAL (%s) e ORDER BY %s LIMIT %d",
		p.chain.patients, each, p.orderBy(func(int) string { return "e.k0" }, "e.rk"), limit))
	found.once = p.certain()
	return found
}

// certain says whether there is one way to the patients and one to what each has, whatever is asked for: then planning, which takes as
// long as the rest, is done once.
func (p *searchPlan) certain() bool {
	return p.alone && p.c.access.everything && p.before == "" && (p.chain.few() || p.rarely(p.chain.where))
}

// turns is gather for the order of byNamed. The rows come from the loop in their order: to order by more than the patient
// would have the planner collect all of them first.
func (p *searchPlan) turns(c *compiler, mark *SearchMark, limit int) statement {
	if len(p.order.keys) == 3 {
		return p.turnsByName(c, mark, limit)
	}
	newest, direction := *p, ""
	newest.order.keys = p.order.keys[1:]
	if p.order.keys[0].descending {
		direction = " DESC"
	}
	place := p.after(c, mark, func(i int) string { return [...]string{"f.rk", "x.date_low"}[i] }, "x.rk")
	each := fmt.Sprintf("SELECT x.rk, x.date_low AS k1 FROM search_index x WHERE x.patient = f.rk AND %s AND %s AND %s ORDER BY %s LIMIT %d",
		p.bounds, holds(p.where, p.chain.all), place, newest.orderBy(func(int) string { return "x.date_low" }, "x.rk"), limit)
	found := p.fetch(c, fmt.Sprintf("SELECT e.rk, f.rk AS k0, e.k1 FROM (SELECT rk FROM (%s) p(rk) ORDER BY rk%s) f, LATERAL (%s) e ORDER BY f.rk%s LIMIT %d",
		p.chain.patients, direction, each, direction, limit))
	found.once = p.certain()
	return found
}

// turnsByName is turns in the order of the names. A patient with several stands where the first of them does.
func (p *searchPlan) turnsByName(c *compiler, mark *SearchMark, limit int) statement {
	newest, direction, beyond := *p, "", "true"
	newest.order.keys = p.order.keys[2:]
	if p.order.keys[0].descending {
		direction = " DESC"
	}
	if mark != nil && len(mark.Keys) == 3 {
		beyond = "s.value " + map[string]string{"": ">=", " DESC": "<="}[direction] + " " + c.arg(*mark.Keys[0], "text")
	}
	place := p.after(c, mark, func(i int) string { return [...]string{"f.value", "f.rk", "x.date_low"}[i] }, "x.rk")
	each := fmt.Sprintf("SELECT x.rk, x.date_low AS k2 FROM search_index x WHERE x.patient = f.rk AND %s AND %s AND %s ORDER BY %s LIMIT %d",
		p.bounds, holds(p.where, p.chain.all), place, newest.orderBy(func(int) string { return "x.date_low" }, "x.rk"), limit)
	// One after the other, and neither for all of the name beforehand.
	first := fmt.Sprintf("CASE WHEN NOT %s THEN false WHEN EXISTS (SELECT %s AND s.rk = n.rk AND coalesce(s.value, s.value) < n.value) THEN false ELSE true END", p.has("n.rk"), p.chain.named)
	found := p.fetch(c, fmt.Sprintf("SELECT e.rk, f.value AS k0, f.rk AS k1, e.k2 FROM (SELECT n.value, n.rk FROM (SELECT DISTINCT s.value, s.rk %s AND %s ORDER BY s.value%s, s.rk%s) n WHERE %s) f, LATERAL (%s) e ORDER BY f.value%s, f.rk%s LIMIT %d",
		p.chain.named, beyond, direction, direction, first, each, direction, direction, limit))
	found.once = p.certain()
	return found
}

// byReferrers orders a search without an order of its own for patients by what refers to them: by their keys, so that a
// page ends the search.
func (p *searchPlan) byReferrers(q *search.Query) bool {
	return slices.ContainsFunc(q.Where, func(e search.Expr) bool {
		h, ok := e.(*search.Has)
		if !ok || h.Target != "Patient" {
			return false
		}
		plan, err := p.c.param(h.Type, h.Param.Code)
		return err == nil && p.c.impliesPatient(h.Type, plan)
	})
}

// skips says whether skip finds the beginning of the answer.
func (p *searchPlan) skips() bool { return p.referrers != nil && !p.bounded && len(p.order.keys) == 0 }

// skip goes from patient to patient among those with the code, in the order of their keys, until it has found limit
// matches, or looked at a bounded number of patients: w has a row for each.
func (p *searchPlan) skip(c *compiler, mark *SearchMark, limit int) string {
	op, direction := ">", ""
	if p.order.rowDescending {
		op, direction = "<", " DESC"
	}
	next := func(after string) string {
		return fmt.Sprintf("SELECT s.patient AS rk FROM search_code s WHERE s.term = %s AND s.patient IS NOT NULL AND %s ORDER BY s.patient%s LIMIT 1",
			p.referrers.term, after, direction)
	}
	match := "EXISTS (SELECT FROM search_index x WHERE x.rk = n.rk AND " + p.closer(p.referrers.all) + ")"
	from := "true"
	if mark != nil {
		from = "s.patient " + op + " " + c.arg(mark.Row, "bigint")
	}
	return fmt.Sprintf(`WITH RECURSIVE w AS (
SELECT n.rk, m.ok, 1 AS looked, m.ok::integer AS matched FROM (%s) n, LATERAL (SELECT %s AS ok) m
UNION ALL SELECT n.rk, m.ok, w.looked + 1, w.matched + m.ok::integer FROM w, LATERAL (%s) n, LATERAL (SELECT %s AS ok) m
WHERE w.looked < %d AND w.matched < %d)
`, next(from), match, next("s.patient "+op+" w.rk"), match, probeRows, limit)
}

// skippedAll says whether skip went to the end.
func (p *searchPlan) skippedAll(ctx context.Context, run *runner, mark *SearchMark, limit int) (bool, error) {
	c := p.compiler(p.conditions)
	sql := p.skip(c, mark, limit) + "SELECT count(*) FROM w"
	var n int
	err := query(ctx, run, !p.alone, sql, c.args, func(rows pgx.Rows) (err error) {
		n, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int])
		return err
	}, nil)
	return n < probeRows, err
}

// listed reads what a patient has with a code from an index in the order of the main date.
func (p *searchPlan) listed(mark *SearchMark, limit int) statement {
	c := p.compiler(len(p.c.args))
	key := func(int) string { return "s.date_low" }
	except := ""
	if p.before != "" {
		except = " AND " + strings.ReplaceAll(p.unchanged, "x.", "s.")
	}
	found := p.fetch(c, fmt.Sprintf("SELECT s.rk, s.date_low AS k0 FROM search_code s WHERE s.term = %s AND s.patient = %s AND %s IS NOT NULL AND %s%s ORDER BY %s LIMIT %d",
		p.code, p.ofPatient, p.typeArgument, p.after(c, mark, key, "s.rk"), except, p.orderBy(key, "s.rk"), limit))
	found.once = true
	if p.plain && p.before == "" {
		found.near = p.listedPlainly(mark, limit)
		found.weighed = strings.Replace(withEvidence(found.near, "r", "type_number"), "about_code r", listOfRecord+" r", 1)
	}
	return found
}

// listedPlainly is listed through the view that has the codes with what has them, so that each row is looked at once.
func (p *searchPlan) listedPlainly(mark *SearchMark, limit int) string {
	key := func(int) string { return "r.date_low" }
	return fmt.Sprintf("SELECT r.rk, %s, false, r.date_low::text, %s\nFROM about_code r WHERE r.term = %s AND r.patient = %s AND %s IS NOT NULL AND r.content IS NOT NULL AND %s ORDER BY %s LIMIT %d",
		p.snapshot(), versionColumns, p.code, p.ofPatient, p.typeArgument, p.after(p.compiler(len(p.c.args)), mark, key, "r.rk"), p.orderBy(key, "r.rk"), limit)
}

// maxAbout is how many patients a read may be about: more would cost more to ask beforehand than row by row.
const maxAbout = 10

// about are the patients whose records the search is of.
func (p *searchPlan) about(q *search.Query) []int64 {
	for _, e := range q.Where {
		var rks []int64
		switch e := e.(type) {
		case *search.Member:
			rks = p.aboutMembers(search.Or{e})
		case search.Or:
			rks = p.aboutMembers(e)
		case *search.Match:
			if plan, err := p.c.param(e.Type, e.Param.Code); err != nil || e.Param.Kind != search.Reference || e.Modifier != "" || !p.c.impliesPatient(e.Type, plan) {
				continue
			}
			for _, v := range e.Values {
				if ref := v.Reference; ref.ID != "" && (ref.Type == "" || ref.Type == "Patient") {
					rks = append(rks, p.c.ix.sameTarget("Patient", ref.ID)...)
				}
			}
		}
		if len(rks) > 0 && len(rks) <= maxAbout {
			return rks
		}
	}
	return nil
}

// aboutMembers is the patient of whose record alternatives are the members; nil where they are anything else.
func (p *searchPlan) aboutMembers(list search.Or) []int64 {
	of := Key{Type: "Patient"}
	for _, one := range list {
		e, ok := one.(*search.Member)
		if !ok || e.Compartment != "Patient" || of.ID != "" && e.ID != of.ID {
			return nil
		}
		of.ID = e.ID
	}
	if of.ID == "" {
		return nil
	}
	return p.c.ix.sameTarget(of.Type, of.ID)
}
