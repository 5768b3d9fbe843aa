package storage

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"kiln/fhir/search"
)

// probeRows is how many rows in the order asked for are looked at before the matches are collected as a set
// (measured: storage.md section 5, traps 2 and 3).
const probeRows = 1000

// searchPlan is a compiled search.
type searchPlan struct {
	// where is all conditions, and bounds the part of them that an index in the order of the main date can begin and end
	// with: the type, and the range that the date lies in.
	where, bounds string
	c             *compiler
	// conditions is how many arguments of c belong to where; those behind it belong to the order.
	conditions int
	order      sortOrder
	dates      dateRangeOf
	// code is the one term of search_code that the search asks for, "" for none. codeOnly says that where asks for no
	// more than that and the type.
	code     string
	codeOnly bool
	// lister is the condition on a reference that code is of; nil where it is a code.
	lister *search.Match
	// state is the condition on search_code w that follows from one on the status beside a reference; nil for none.
	state func(*compiler) string
	// alone says that there is one condition and nothing else.
	alone bool
	// value is what follows for search_code from a condition on the value beside the code; nil for none.
	value *valueRange
	// listedWhole says that the search asks for no more than the code, and a value beside it.
	listedWhole bool
	// sure asks a walk along values to make sure of each row that its resource has none that comes before: see firsts.
	sure bool
	// patient is the condition that it is of one patient, "" for none. frequent says that the others are often met.
	patient  string
	frequent bool
	// types are the numbers of those searched, where conditions have terms of several.
	types []int16
	// typeArgument is the placeholder of the type.
	typeArgument string
	// bounded says that the caller sees little of the type, own that it is what lies in one compartment. nearby asks
	// statements that collect all matches to begin with what lies there.
	bounded, own bool
	nearby       bool
	// scarce says of a bounded plan that the caller treats few: set where a search is sorted in groups.
	scarce bool
	// passes says of a bounded plan that the caller treats so many that resources are looked at in the order asked for.
	passes bool
	// sparse says of a search of several types that the caller may see little of some, among very much.
	sparse bool
	// parted are its types by how what the caller sees of them is found; nil where one condition does for all.
	parted *parted
	// seldom says that some condition is met by few resources for certain.
	seldom bool
	number int16 // of the type, where it is bounded
	// past is what the first page saw; nil for the first page itself.
	past *past
	// ofPatient is the placeholder of the patient, where the search asks for what a patient has with the code, and no more.
	ofPatient string
	// plain says that the search is of few patients' records, and that the views of about.go are for who asks. beyond says that no condition
	// asks for those records: others may have much that matches.
	plain, beyond bool
	// chain and referrers are the conditions on the patient that a page can begin with; nil for none.
	chain     *chained
	referrers *referring
	// lying is the condition on a patient's record, where the search asks for no more; nil for others.
	lying *lyingIn
	// before finds those that have changed since, as they were; "" where none have.
	before string
	// parts says that rows have the id of the contained resource that they are of.
	parts bool
	// unchanged is the condition that passes over them.
	unchanged string
	// sortsBy are conditions of a group, on what a resource sorts by, and common and few say that much may have its text, and that little has: see search_texts.go.
	sortsBy     []string
	common, few bool
	// lead is a query of the keys of what a table has with the value of a group, "" for none.
	lead string
	// merged says that it is the plan of one of several types, and unsparing that all matches are to be sorted, however many.
	merged, unsparing bool
	// stepwise says of a search in the order of one table of values that it goes on as one by several keys does: see afterWalk.
	stepwise bool
	// named is a condition that holds, with arguments that must have a place.
	named string
}

// compiler goes on behind the first n arguments.
func (p *searchPlan) compiler(n int) *compiler {
	c := *p.c
	c.args = slices.Clone(c.args[:n])
	return &c
}

// closer is the condition on matches for a look at some rows, which meet known; "" for no part of it.
func (p *searchPlan) closer(known string) string {
	return strings.NewReplacer(p.c.closer...).Replace(holds(p.where, known))
}

// anew says whether a statement of the search is to be planned with its values: see dependsOnValues. What is asked of each patient
// looked at, leaves nothing to choose.
func (p *searchPlan) anew() bool {
	where := p.where
	for i := 0; p.bounded && i < len(p.c.closer); i += 2 {
		where = strings.ReplaceAll(where, p.c.closer[i], "")
	}
	return dependsOnValues(where)
}

// planOnce says whether a statement of the search is planned once for all values.
func (p *searchPlan) planOnce(s statement) bool { return s.once || !p.anew() && !p.parts }

// collected is the condition on all matches, with a compiler that goes on behind the first n arguments.
func (p *searchPlan) collected(n int) (where string, c *compiler) {
	c = p.compiler(n)
	if where = p.where; p.bounded {
		where = p.closer("")
	}
	if p.nearby {
		where += " AND " + c.nearby("x", p.number)
	}
	return where, c
}

func (s *Store) plan(ctx context.Context, run *runner, q *search.Query) (*searchPlan, error) {
	return s.planFor(ctx, run, q, compiler{})
}

// planFor is plan with a compiler that knows which tables to read and has arguments already.
func (s *Store) planFor(ctx context.Context, run *runner, q *search.Query, c compiler) (*searchPlan, error) {
	ix := s.indexer.Load()
	c.ix, c.access, c.types = ix, run.access, q.Types
	p := &searchPlan{c: &c, merged: c.merged}
	p.c.codes = storedCodes{ctx, s, run, ix}
	run.about = p.about(q)
	if err := run.weighsCare(ctx); err != nil {
		return nil, err
	}
	p.c.asksTreated, p.c.asksFew = run.near, run.scarce
	p.sparse = len(q.Types) != 1 && run.access.sparse(s.numbers(q.Types), run.near)
	p.parted = p.partsOf(q, run.scarce)
	p.c.apartByType = p.sparse && p.parted == nil
	conditions := make([]string, len(q.Where))
	for i, e := range q.Where {
		var err error
		if conditions[i], err = p.c.expr(e, "x"); err != nil {
			return nil, err
		}
	}
	where := conjunction(conditions)
	switch len(q.Types) {
	case 0:
		p.where = where
	case 1:
		if err := p.ofType(q, conditions); err != nil {
			return nil, err
		}
	default:
		asked := map[string]bool{}
		for _, t := range q.Types {
			asked[t] = true
		}
		if slices.ContainsFunc(q.Where, func(e search.Expr) bool { return membersAre(e, asked) }) {
			p.where = where // which says the types already
			break
		}
		numbers := make([]int16, len(q.Types))
		for i, t := range q.Types {
			numbers[i] = ix.registry.TypeNumber(t)
		}
		filter := "x.type = ANY("
		if len(p.c.unions) > 0 || slices.ContainsFunc(q.Where, areMembers) { // terms of a compartment are rare: see ofType
			filter = "x.type + 0 = ANY("
		}
		p.where = filter + p.c.arg(numbers, "smallint[]") + ") AND " + where
	}
	var numbers []int16
	for _, t := range q.Types {
		numbers = append(numbers, ix.registry.TypeNumber(t))
	}
	if len(p.c.unions) > 0 {
		p.types = s.numbers(p.c.searched())
	}
	if !run.access.everything { // through the view, each row of the table of codes costs as much as one of the index
		if p.codeOnly = false; p.lister != nil {
			p.code, p.lister = "", nil
		}
	}
	var visible string
	var err error
	if p.c.inside { // one of the two: an argument that no condition uses has no type
		visible, err = p.c.seen()
	} else {
		visible, err = p.c.visible("x", numbers)
	}
	if err != nil {
		return nil, err
	}
	if visible != "" {
		p.where += " AND " + visible
	}
	p.seldom = p.rare(q)
	if len(numbers) == 1 && run.access.bounded(numbers[0]) {
		p.bounded, p.own = true, !run.access.treats(numbers[0])
		p.passes = !p.own && !run.scarce
		p.nearby, p.number = !p.seldom && (p.own || run.near), numbers[0]
	}
	p.plain = run.plainly() && (p.own || len(run.about) > 0)
	p.beyond = len(run.about) == 0 && !p.nearby
	p.conditions = len(p.c.args)
	p.alone = len(conditions) == 1 && visible == ""
	p.listedWhole = p.code != "" && run.access.everything && (len(conditions) == 1 || len(conditions) == 2 && p.value != nil && p.lister == nil)
	p.throughPatients(conditions)
	if p.alone && len(q.Sort) == 0 && q.Contained == "" && !c.merged {
		p.lying = p.ofRecord(conditions)
	}
	if p.code != "" && p.lister == nil && len(conditions) == 2 && visible == "" {
		for _, one := range conditions {
			if patient, ok := strings.CutPrefix(one, "x.patient = $"); ok {
				p.ofPatient = "$" + patient
			}
		}
	}
	if p.bounded && p.ofPatient == "" { // a walk along the code would go through the records of others
		p.code = ""
	}
	if len(q.Types) == 1 && !c.merged && len(q.Sort) == 0 && (p.byText(q, conditions) || p.byReferrers(q) || p.byNamed(q, conditions)) {
		return p, nil
	}
	return p, p.sort(q)
}

// areMembers says whether a condition is met by members of a compartment alone.
func areMembers(e search.Expr) bool {
	switch e := e.(type) {
	case *search.Member:
		return true
	case search.Or:
		return len(e) > 0 && !slices.ContainsFunc(e, func(one search.Expr) bool { return !areMembers(one) })
	}
	return false
}

// membersAre says whether a condition is met by members of a compartment alone, which are of some types.
func membersAre(e search.Expr, types map[string]bool) bool {
	switch e := e.(type) {
	case *search.Member:
		return types[e.Type]
	case search.Or:
		return len(e) > 0 && !slices.ContainsFunc(e, func(one search.Expr) bool { return !membersAre(one, types) })
	}
	return false
}

type strategy int

const (
	set strategy = iota
	probe
	direct
	walk
	gather
	listed
	record
	whole
	asks
)

// strategy chooses how to find the matches. Without an index for the order there is only the set. A search without
// conditions reads the index of the order itself. What is certainly rare is collected at once; but what
// may be much of one patient's record is read in its order, until a page is full: whether the caller may see a row costs
// more to find out than the row.
func (p *searchPlan) strategy(q *search.Query) strategy {
	if p.skips() {
		return walk
	}
	if p.lying != nil && p.before == "" {
		return whole
	}
	if p.asks(q) != nil {
		return asks
	}
	walks := p.order.side != nil || p.order.dated
	if p.inTurn() && p.gathers() && !p.rare(q) {
		return gather
	}
	if !p.order.indexed && !walks {
		return set
	}
	if len(q.Where) == p.dates.closed && !walks && !p.bounded {
		return direct // what the index gives between the bounds is what matches
	}
	if p.ofPatient != "" && len(p.order.keys) == 1 && p.order.keys[0].sql == "x.date_low" {
		return listed
	}
	if p.frequent && p.order.indexed && p.order.keys[0].sql == "x.date_low" {
		return record
	}
	if p.own || p.rare(q) {
		return set
	}
	if p.gathers() && p.chain.few() {
		return gather
	}
	if walks {
		return walk
	}
	if p.code != "" && len(p.order.keys) == 1 && p.order.keys[0].sql == "x.date_low" {
		p.order.side = &sideOrder{table: "search_code", column: "date_low", which: "s.term = " + p.code, unique: true}
		return walk
	}
	if slices.ContainsFunc(q.Where, func(e search.Expr) bool { _, has := e.(*search.Has); return has }) {
		return set // a look finds all that matches inside, too, and maybe for each row that it looks at
	}
	return probe
}

// rare says whether some condition is met by few resources for certain.
func (p *searchPlan) rare(q *search.Query) bool {
	return slices.ContainsFunc(q.Where, p.rarely)
}

// rarely is rare for one condition.
func (p *searchPlan) rarely(e search.Expr) bool {
	switch e := e.(type) {
	case *search.Chain:
		return p.rarely(e.Where)
	case search.And: // of one of several types
		return slices.ContainsFunc(e, p.rarely)
	case search.Or:
		return len(e) > 0 && !slices.ContainsFunc(e, func(one search.Expr) bool { return !p.rarely(one) })
	case *search.Match:
		switch {
		case e.Modifier == "not", e == p.lister:
		case e.Param.Code == "_id", e.Modifier == "exact", e.Modifier == "identifier", e.Modifier == "of-type",
			e.Param.Kind == search.Reference:
			return true
		case e.Param.Kind == search.Token:
			plan, err := p.c.param(e.Type, e.Param.Code)
			return err == nil && plan.rare
		}
	}
	return false
}

// after is the condition that a row lies behind mark in the order, over the columns k0, k1 … and rk. All alternatives
// lie within a bound on the first key, for the sake of an index on it (storage.md section 5, trap 6).
func (p *searchPlan) after(c *compiler, mark *SearchMark, column func(int) string, row string) string {
	if mark == nil || len(mark.Keys) != len(p.order.keys) {
		return "true"
	}
	var alternatives []string
	equal := ""
	bound := ""
	for i, k := range p.order.keys {
		name := column(i)
		op := ">"
		if k.descending {
			op = "<"
		}
		if mark.Keys[i] == nil {
			if k.nullsFirst {
				alternatives = append(alternatives, "("+equal+name+" IS NOT NULL)")
			}
			equal += name + " IS NULL AND "
			continue
		}
		v := func() string { return c.arg(*mark.Keys[i], "text") + "::" + k.typ }
		behind := fmt.Sprintf("%s %s %s", name, op, v())
		if !k.notNull && !k.nullsFirst {
			behind = fmt.Sprintf("(%s OR %s IS NULL)", behind, name)
		}
		alternatives = append(alternatives, "("+equal+behind+")")
		if i == 0 && k.notNull {
			bound = fmt.Sprintf("%s %s= %s AND ", name, op, v())
		}
		equal += fmt.Sprintf("%s = %s AND ", name, v())
	}
	op := ">"
	if p.order.rowDescending {
		op = "<"
	}
	alternatives = append(alternatives, fmt.Sprintf("(%s%s %s %s)", equal, row, op, c.arg(mark.Row, "bigint")))
	return "(" + bound + "(" + strings.Join(alternatives, " OR ") + "))"
}

func (p *searchPlan) orderBy(column func(int) string, row string) string {
	var b strings.Builder
	for i, k := range p.order.keys {
		b.WriteString(column(i))
		if k.descending {
			b.WriteString(" DESC")
		}
		switch { // only where it is not what PostgreSQL does anyhow, so that indexes still fit
		case k.notNull:
		case k.nullsFirst && !k.descending:
			b.WriteString(" NULLS FIRST")
		case !k.nullsFirst && k.descending:
			b.WriteString(" NULLS LAST")
		}
		b.WriteString(", ")
	}
	b.WriteString(row)
	if p.order.rowDescending {
		b.WriteString(" DESC")
	}
	return b.String()
}

func (p *searchPlan) columns(prefix string) (list string) {
	for i := range p.order.keys {
		list += fmt.Sprintf("%sk%d::text, ", prefix, i)
	}
	return list
}
