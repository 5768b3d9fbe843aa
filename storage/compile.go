package storage

import (
	"fmt"
	"strconv"
	"strings"

	"kiln/fhir"
	"kiln/fhir/search"
)

// compiler turns a condition into SQL over search_index. Every value becomes a parameter: no text of a query ever
// becomes part of a statement. It is the only place that builds SQL.
type compiler struct {
	ix   *Indexer
	args []any
	// aliases numbers the search_index rows of nested conditions: x, x1, x2 …
	aliases int
	codes   searchCodes
	// access is what the caller may see; nil for everything.
	access *Access
	// types are those that the search is for; nil for all.
	types []string
	// Paging looks at resources as they were: see search_past.go. was says that the rows that the search returns come from
	// was_search_index, others is put before the names of the tables that conditions on other resources look at.
	was    bool
	others string
	// asksTreated says that patients in treatment, and asksFew that what lies in their records, is found by them: see nearby.
	asksTreated, asksFew bool
	// apartByType says that the terms of several types are not put together: see united.
	apartByType bool
	// steps counts the steps of a chain around what is compiled, and sets are the keys that its further steps lead to, each as
	// a table with one array a: see targets.
	steps int
	sets  []string
	// inside says that the rows that the search returns come from search_contained.
	inside bool
	// merged says that the search of one type is a part of one of several, and has the order of that: see search_several.go.
	merged bool
	// closer has conditions in pairs: one as it is compiled, and one that is the same and cheaper where only some rows are
	// looked at.
	closer []string
	// chained and referring are the conditions through a patient that a page may begin with: see search_patient.go.
	chained   []chained
	referring []referring
	asking    []asking
	partials  []*partialText // the conditions on a part of a text
	lying     []lyingIn      // those on members of one compartment: see search_member.go
	// joins counts the conditions that the planner may join as sets: see maxJoins.
	joins int
	// perRow has conditions on values in pairs: as a set of keys, and as a look for each row; words those on texts.
	perRow, words []string
	// innerRow has those on values of other resources: see asksEach.
	innerRow []string
	// termed is the last condition on terms, and unions are those put together: see search_newest.go.
	termed termsOf
	unions []union
	// texts says that words are asked for by terms.
	texts bool
	// eachWay has alternatives in pairs: as they are compiled, and as a set of keys. See ways.
	eachWay []string
}

// table is a table of the index, or of the contents, for conditions on the row x.
func (c *compiler) table(name, x string) string {
	switch {
	case x != "x":
		return c.others + name
	case c.was:
		return "jsonb_populate_recordset(NULL::" + name + ", x.tables->'" + name + "')"
	}
	return name
}

// arg adds a parameter and returns its placeholder with the type PostgreSQL must read it as.
func (c *compiler) arg(v any, typ string) string {
	c.args = append(c.args, v)
	return "$" + strconv.Itoa(len(c.args)) + "::" + typ
}

func (c *compiler) alias() string {
	c.aliases++
	return "x" + strconv.Itoa(c.aliases)
}

// all compiles conditions that must hold together.
func (c *compiler) all(where []search.Expr, x string) (string, error) {
	parts := make([]string, 0, len(where))
	for _, e := range where {
		s, err := c.expr(e, x)
		if err != nil {
			return "", err
		}
		parts = append(parts, s)
	}
	return conjunction(parts), nil
}

func conjunction(parts []string) string {
	if len(parts) == 0 {
		return "true"
	}
	return strings.Join(parts, " AND ")
}

// apart compiles what the planner does not join with what stands around it: one of several alternatives, for instance. Its joins count
// for themselves, or a search of all types would ask each row of the types behind the first twelve.
func (c *compiler) apart(e search.Expr, x string) (string, error) {
	around := c.joins
	c.joins = 0
	s, err := c.expr(e, x)
	c.joins = around
	return s, err
}

func (c *compiler) expr(e search.Expr, x string) (string, error) {
	switch e := e.(type) {
	case search.And:
		s, err := c.all(e, x)
		return "(" + s + ")", err
	case search.Or:
		if areMembers(e) {
			return c.members(e, x)
		}
		if len(e) == 1 {
			s, err := c.expr(e[0], x)
			return "(" + s + ")", err
		}
		if cond := c.named(e, x); cond != "" {
			return cond, nil
		}
		parts, asked, before := []string{}, []termsOf{}, len(c.args)
		for _, one := range e {
			c.termed = termsOf{}
			s, err := c.apart(one, x)
			if err != nil {
				return "", err
			}
			parts, asked = append(parts, s), append(asked, c.termed)
		}
		if len(parts) == 0 {
			return "false", nil
		}
		if cond := c.united(e, parts, asked, before, x); cond != "" {
			return cond, nil
		}
		if cond := c.denied(e, parts, asked, before, x); cond != "" {
			return cond, nil
		}
		if cond := c.valued(e, parts, x); cond != "" {
			return cond, nil
		}
		any := "(" + strings.Join(parts, " OR ") + ")"
		c.ways(e, parts, any, x)
		return any, nil
	case search.Not:
		s, err := c.apart(e.Expr, x)
		return "(" + s + ") IS NOT TRUE", err // columns may be NULL, and then no condition on them is met
	case *search.Match:
		return c.match(e, x)
	case *search.Missing:
		return c.missing(e, x)
	case *search.Chain:
		return c.chain(e, x)
	case *search.Has:
		return c.has(e, x)
	case *search.Member:
		return c.member(e, x)
	case *search.IsType:
		return x + ".type = " + c.arg(c.ix.registry.TypeNumber(e.Type), "smallint"), nil
	}
	return "", fmt.Errorf("storage: no SQL for %T", e)
}

// ways notes how what several chains lead to is collected: of each alternative by its index. PostgreSQL finds alternatives of which one is a set
// row by row, of all that the type has.
func (c *compiler) ways(list search.Or, parts []string, any, x string) {
	if x != "x" || c.was || c.inside || c.others != "" || c.access == nil || !c.access.everything {
		return
	}
	var ways []string
	for i, e := range list {
		chain, ok := e.(*search.Chain)
		if !ok || !strings.HasPrefix(parts[i], "x.patient IN (") && !strings.HasPrefix(parts[i], "x.refs && ") {
			return
		}
		of := "w.type + 0" // no index beside that of the references
		if strings.HasPrefix(parts[i], "x.patient") {
			of = "w.type"
		}
		ways = append(ways, fmt.Sprintf("SELECT w.rk FROM search_index w WHERE %s AND %s = %d", strings.Replace(parts[i], "x.", "w.", 1), of, c.ix.registry.TypeNumber(chain.Type)))
	}
	c.eachWay = append(c.eachWay, any, "x.rk IN ("+strings.Join(ways, " UNION ALL ")+")")
}

// missing asks which shapes lack the parameter: see search_shape.
func (c *compiler) missing(e *search.Missing, x string) (string, error) {
	if skipInIndex(e.Param.Code) {
		return strconv.FormatBool(!e.Missing), nil
	}
	p, err := c.param(e.Type, e.Param.Code)
	if err != nil {
		return "", err
	}
	not := ""
	if e.Missing {
		not = "NOT "
	}
	number := c.ix.registry.TypeNumber(e.Type)
	cond := fmt.Sprintf("%s.tokens && ARRAY(SELECT s.marker FROM search_shape s WHERE s.type = %s AND %ss.params @> %s)",
		x, c.arg(number, "smallint"), not, c.arg([]int32{int32(p.def.Key)}, "integer[]"))
	if c.access != nil && c.access.alone && e.Type == visitType && (c.ix.toldOf(p.def) || p.def.Type != search.Reference && aboutOthers(p.def.Code, wholeExpression(p.def))) {
		cond = c.asksOthers(cond, x)
	}
	return cond, nil
}

// chain finds the targets first, and then what refers to them.
func (c *compiler) chain(e *search.Chain, x string) (string, error) {
	p, err := c.param(e.Type, e.Param.Code)
	if err != nil {
		return "", err
	}
	if c.access != nil && c.access.alone && e.Type == visitType && e.Target == "RelatedPerson" && aboutOthers(p.def.Code, wholeExpression(p.def)) {
		return "false", nil // none is named in a visit
	}
	y := c.alias()
	around := c.sets
	c.sets = nil
	c.steps++
	where, err := c.apart(e.Where, y)
	c.steps--
	within := c.sets
	if c.sets = around; err != nil {
		return "", err
	}
	if e.Target == "Patient" && c.impliesPatient(e.Type, p) {
		of, known := c.sideRows(e.Where, where, y)
		named := ""
		if known {
			named = strings.TrimPrefix(of, "SELECT DISTINCT s.rk ")
		} else {
			if of, err = c.targets(e, where, within, y, y+".rk"); err != nil {
				return "", err
			}
		}
		if set, ok := c.asSet(of); ok {
			return fmt.Sprintf("%s.patient = ANY(%s)", x, set), nil
		}
		all := fmt.Sprintf("%s.patient IN (%s)", x, of)
		if x == "x" {
			c.chained = append(c.chained, chained{all: all, patients: of, named: named, where: e.Where})
		}
		return all, nil
	}
	salt := c.arg(p.salt, "bigint")
	of, err := c.targets(e, where, within, y, y+".rk # "+salt)
	if err != nil {
		return "", err
	}
	if p.canonical { // see Indexer.canonicalTerm
		cond, err := c.joined(y, e.Target, where)
		if err != nil {
			return "", err
		}
		of += fmt.Sprintf(" UNION ALL SELECT u.f # %s FROM %s %s, unnest(%s.refs) AS u(f) WHERE %s", salt, c.table("search_index", y), y, y, cond)
	}
	if set, ok := c.asSet(of); ok {
		return fmt.Sprintf("%s.refs && %s", x, set), nil
	}
	return fmt.Sprintf("%s.refs && ARRAY(%s)", x, of), nil
}

// asSet makes a query of keys one of the sets of the chain around it, and returns it as an array.
func (c *compiler) asSet(query string) (string, bool) {
	if c.steps == 0 || c.access == nil || c.access.everything {
		return "", false
	}
	c.aliases++
	name := "set" + strconv.Itoa(c.aliases)
	c.sets = append(c.sets, name+" AS MATERIALIZED (SELECT ARRAY("+query+") AS a)")
	return "(SELECT a FROM " + name + ")::bigint[]", true
}

// targets is a query for what a chain leads to: resources, and those inside of others (FHIR R4 search.html#contained). For
// callers the two are views, which the planner looks through one by one alone; so the condition stands there twice, and what
// its further steps lead to is found beforehand, or a chain would be twice as long with each step. Granular scopes are asked of
// what contains, as in seen.
func (c *compiler) targets(e *search.Chain, where string, sets []string, y, what string) (string, error) {
	cond, err := c.joined(y, e.Target, where)
	if err != nil {
		return "", err
	}
	cond += c.nearer(y, c.ix.registry.TypeNumber(e.Target), where)
	if c.access == nil || c.access.everything {
		const columns = "rk, type, patient, date_low, date_high, last_updated, tokens, refs"
		return fmt.Sprintf("SELECT %s FROM (SELECT %s FROM %s t UNION ALL SELECT %s FROM %s i) %s WHERE %s", what, columns, c.table("search_index", y),
			columns, c.table("search_contained", y), y, cond), nil
	}
	with := ""
	if len(sets) > 0 {
		with = "WITH " + strings.Join(sets, ", ") + " "
	}
	of := fmt.Sprintf("%sSELECT %s FROM %s %s WHERE %s", with, what, c.table("search_index", y), y, cond)
	seen, err := c.container(y)
	if err != nil {
		return "", err
	}
	return of + fmt.Sprintf(" UNION ALL SELECT %s FROM %s %s WHERE %s.type = %s AND %s%s", what, c.table("search_contained", y), y, y,
		c.arg(c.ix.registry.TypeNumber(e.Target), "smallint"), where, seen), nil
}

// container is what the caller may see of contained resources i beside what the view search_contained knows: those in what
// granular scopes grant, and nothing inside a visit of which the caller sees the own part alone.
func (c *compiler) container(i string) (string, error) {
	cond := ""
	if c.access.alone {
		cond = fmt.Sprintf(" AND NOT EXISTS (SELECT FROM search_index v WHERE v.rk = %s.container AND v.type = %s)", i,
			c.arg(c.ix.registry.TypeNumber(visitType), "smallint"))
	}
	visible, err := c.visible("w", nil)
	if err == nil && visible != "" {
		cond += fmt.Sprintf(" AND EXISTS (SELECT FROM search_index w WHERE w.rk = %s.container AND %s)", i, visible)
	}
	return cond, err
}

// joined is the condition on the row of another resource: that it is of a type, that the caller may see it, and where.
func (c *compiler) joined(y, typ, where string) (string, error) {
	number := c.ix.registry.TypeNumber(typ)
	of := ".type = "
	if strings.HasPrefix(where, y+".refs ") { // a rare term belongs to one type: see ofType
		of = ".type + 0 = "
	}
	cond := fmt.Sprintf("%s%s%s AND %s", y, of, c.arg(number, "smallint"), where)
	visible, err := c.visible(y, []int16{number})
	if err != nil || visible == "" {
		return cond, err
	}
	return cond + " AND " + visible, nil
}

// impliesPatient says whether a reference parameter, where it refers to a Patient, is the one that fills the patient
// column: subject of an Observation is, because patient is defined as subject.where(resolve() is Patient).
func (c *compiler) impliesPatient(typ string, p *paramPlan) bool {
	if p.patient {
		return true
	}
	patient, err := c.ix.param(typ, "patient")
	if err != nil || patient == nil || !patient.patient {
		return false
	}
	base, _, _ := strings.Cut(patient.def.Expression, ".where(resolve()")
	return base == p.def.Expression && isSingle(c.ix.registry.Schema(), p.def)
}

// has finds the referrers first, and then what they refer to. Other references of a referrer, unsalted with the wrong
// parameter, are numbers that no resource has.
func (c *compiler) has(e *search.Has, x string) (string, error) {
	p, err := c.param(e.Type, e.Param.Code)
	if err != nil {
		return "", err
	}
	visit := c.access != nil && c.access.alone && e.Type == visitType
	if visit && e.Target == "RelatedPerson" && aboutOthers(p.def.Code, wholeExpression(p.def)) {
		return "false", nil // none is named in a visit
	}
	y := c.alias()
	around := c.joins
	c.joins = 0 // what leads to those that refer here is joined, or all of the type would be asked
	where, err := c.expr(e.Where, y)
	c.joins = around + max(c.joins-1, 0) // which is one with the condition itself
	if err != nil {
		return "", err
	}
	cond, err := c.joined(y, e.Type, where)
	if err != nil {
		return "", err
	}
	if visit && c.ix.toldOf(p.def) {
		cond = c.asksOthers(cond, y)
	}
	number := c.ix.registry.TypeNumber(e.Type)
	if e.Target == "Patient" && c.impliesPatient(e.Type, p) {
		if x != "x" { // otherwise those patients are looked for by the search itself
			cond += c.nearer(y, number, where)
		}
		of := fmt.Sprintf("SELECT %s.patient FROM %s %s WHERE %s", y, c.table("search_index", y), y, cond)
		if set, ok := c.asSet(of); ok {
			return fmt.Sprintf("%s.rk = ANY(%s)", x, set), nil
		}
		all := fmt.Sprintf("%s.rk IN (%s)", x, of)
		c.byPatient(e, all, where, x, y, cond)
		c.asksEach(e, all, y, cond, y+".patient = "+askedKey, true)
		return c.asked(all), nil
	}
	salt := c.arg(p.salt, "bigint")
	from := fmt.Sprintf("SELECT u.f # %s FROM %s %s, unnest(%s.refs) AS u(f) WHERE %s", salt, c.table("search_index", y), y, y, cond+c.nearer(y, number, where))
	if p.canonical { // see Indexer.canonicalTerm
		return fmt.Sprintf("(%s.rk IN (%s) OR %s.refs && ARRAY(%s))", x, from, x, from), nil
	}
	if set, ok := c.asSet(from); ok {
		return fmt.Sprintf("%s.rk = ANY(%s)", x, set), nil
	}
	all := fmt.Sprintf("%s.rk IN (%s)", x, from)
	c.asksEach(e, all, y, cond, fmt.Sprintf("%s.refs @> ARRAY[%s # %s]", y, askedKey, salt), false)
	return c.asked(all), nil
}

// commonCode is how many resources must have a code so that it is common.
const commonCode = 1000

// byPatient notes another way to ask whether a patient has something with a code: where the code is common, the few patients
// looked at are asked one by one, and not all resources with the code for their patients. Through the views, which judge each
// of those resources, it is always so.
func (c *compiler) byPatient(e *search.Has, all, where, x, y, cond string) {
	m, ok := e.Where.(*search.Match)
	term, one := strings.CutPrefix(where, y+".tokens @> ")
	if !ok || !one || x != "x" || c.others != "" || c.was || c.access == nil || m.Values[0].Code == "" {
		return
	}
	if p, err := c.ix.param(e.Type, m.Param.Code); err != nil || p == nil || !p.mainCode {
		return
	}
	closer := ""
	switch number, only := strings.CutSuffix(cond, " AND "+where); {
	case c.access.everything:
		closer = fmt.Sprintf("CASE WHEN (SELECT count(*) FROM (SELECT FROM search_code s WHERE s.term = (%s)[1] LIMIT %d) c) = %d "+
			"THEN EXISTS (SELECT FROM search_index %s WHERE %s.patient = %s.rk AND %s OFFSET 0) ELSE %s END", term, commonCode, commonCode, y, y, x, cond, all)
	case only: // the type is that of the code; it only gives its argument a place
		closer = fmt.Sprintf("EXISTS (SELECT FROM search_code s WHERE s.term = (%s)[1] AND s.patient = %s.rk AND %s IS NOT NULL OFFSET 0)",
			term, x, strings.TrimPrefix(number, y+".type = "))
	default: // what granular scopes ask, the table of codes does not know
		return
	}
	c.referring = append(c.referring, referring{all: all, term: "(" + term + ")[1]"})
	c.closer = append(c.closer, all, closer)
}

func (c *compiler) param(typ, code string) (*paramPlan, error) {
	p, err := c.ix.param(typ, code)
	if err == nil && p == nil {
		err = fhir.NewError(fhir.Invalid, fhir.CodeNotSupported, fmt.Sprintf("%s has no search parameter %q.", typ, code))
	}
	return p, err
}

// match compiles one parameter with its values.
func (c *compiler) match(m *search.Match, x string) (string, error) {
	if cond, done, err := c.together(m, x); done || err != nil {
		return cond, err
	}
	switch m.Param.Code {
	case "_id":
		if m.Modifier == "not" || m.Modifier == search.Unequal {
			return "NOT " + c.ids(m, x), nil
		}
		if m.Modifier != "" {
			return "", notOffered(m)
		}
		return c.ids(m, x), nil
	case "_text", "_content":
		return c.text(m, x)
	case "_lastUpdated":
		return disjunction(m.Values, func(v search.Value) (string, error) {
			return c.instantCondition(x+".last_updated", v), nil
		})
	}
	p, err := c.param(m.Type, m.Param.Code)
	if err != nil {
		return "", err
	}
	if strings.HasPrefix(m.Modifier, "=") {
		return c.filtered(m, p, x)
	}
	switch m.Param.Kind {
	case search.Special:
		if m.Param.Code == "near" {
			return c.near(m, x)
		}
	case search.Token:
		return c.token(m, p, x)
	case search.Reference:
		return c.reference(m, p, x)
	case search.URI:
		return c.uri(m, p, x)
	case search.String:
		return c.string(m, p, x)
	case search.Date:
		if p.mainDate {
			cond, err := disjunction(m.Values, func(v search.Value) (string, error) {
				return c.began(x, v) + c.dateCondition(x+".date_low", x+".date_high", v), nil
			})
			return "(" + cond + " AND " + x + ".date_high > '-infinity')", err
		}
		return c.side("search_date", p.def.Key, m.Values, x, func(v search.Value) (string, error) {
			return c.dateCondition("s.low", "s.high", v), nil
		})
	case search.Number, search.Quantity:
		return c.side("search_number", p.def.Key, m.Values, x, func(v search.Value) (string, error) {
			return c.quantityCondition(v), nil
		})
	case search.Composite:
		return c.side("search_composite", p.def.Key, m.Values, x, func(v search.Value) (string, error) {
			return c.compositeCondition(p, m.Param, v)
		})
	}
	return "", notOffered(m)
}

func notOffered(m *search.Match) error {
	name := m.Param.Code
	if m.Modifier != "" {
		name += ":" + m.Modifier
	}
	return fhir.NewError(fhir.Invalid, fhir.CodeNotSupported, fmt.Sprintf("Search parameter %q: this server does not offer it.", name))
}

// maxJoins is how many sets one statement may join. The planner's time grows with more than the square of their number: of 200 names
// that a patient should have it took 25 s. What goes beyond is asked of each row that is left.
const maxJoins = 12

// asked is a condition on a set of keys, or beyond maxJoins the same as one that the planner does not join.
func (c *compiler) asked(set string) string {
	if c.joins++; c.joins > maxJoins {
		return "(" + set + ") IS TRUE"
	}
	return set
}

func disjunction(values []search.Value, cond func(search.Value) (string, error)) (string, error) {
	parts := make([]string, 0, len(values))
	for _, v := range values {
		s, err := cond(v)
		if err != nil {
			return "", err
		}
		parts = append(parts, s)
	}
	if len(parts) == 1 {
		return parts[0], nil
	}
	return "(" + strings.Join(parts, " OR ") + ")", nil
}

func (c *compiler) ids(m *search.Match, x string) string {
	if c.inside && x == "x" {
		ids := []string{}
		for _, v := range m.Values {
			if !v.HasSystem || v.System == "" {
				ids = append(ids, v.Code)
			}
		}
		return fmt.Sprintf("x.id = ANY(%s)", c.arg(ids, "text[]"))
	}
	rks := make([]int64, 0, len(m.Values))
	for _, v := range m.Values {
		if v.HasSystem && v.System != "" {
			continue
		}
		rks = append(rks, c.ix.hash.Resource(m.Type, v.Code))
	}
	c.termed = termsOf{fmt.Sprintf("%s.rk = ANY(%s)", x, c.arg(rks, "bigint[]")), x + ".rk", rks}
	return c.termed.sql
}
