package storage

import (
	"fmt"
	"strings"
	"time"

	"kiln/fhir/search"
)

// dateRangeOf is what the conditions on the main date say about where it begins, as placeholders.
type dateRangeOf struct {
	low, high []string
	// since are moments after which what matches began, unless it is a long period, which ended after the moments in ended.
	since, ended []string
	// closed is how many conditions of the search hold for all that begins within these bounds, or nearly all.
	closed int
}

// bounds is a condition on a column with the beginning of the main date.
func (r dateRangeOf) bounds(column string) (sql string) {
	for _, low := range r.low {
		sql += " AND " + column + " >= " + low
	}
	for _, high := range r.high {
		sql += " AND " + column + " <= " + high
	}
	return sql
}

// short is a condition on a column with the beginning of the main date, met by all but the long periods.
func (r dateRangeOf) short(column string) (sql string) {
	for _, since := range r.since {
		sql += " AND " + column + " > " + since
	}
	return sql + r.bounds(column)
}

// longPeriod is the predicate of the index search_index_long. What is not long ends within shortPeriod.
const (
	longPeriod  = `x.date_high AT TIME ZONE 'UTC' > (x.date_low AT TIME ZONE 'UTC') + interval '31 days'`
	shortPeriod = 31 * 24 * time.Hour
)

// long is a query of the long periods that may go on at the time asked for.
func (p *searchPlan) long() string {
	return fmt.Sprintf("SELECT l.rk FROM search_index l WHERE l.type = %s AND %s AND l.date_high > %s", p.typeArgument,
		strings.ReplaceAll(longPeriod, "x.", "l."), p.dates.ended[0])
}

// ofType completes the conditions of a search of one type. Beside the type itself they get what follows from them for
// the sake of an index: bounds of the main date.
func (p *searchPlan) ofType(q *search.Query, conditions []string) error {
	number := p.c.arg(p.c.ix.registry.TypeNumber(q.Types[0]), "smallint")
	p.typeArgument = number
	since := ""
	for i, e := range q.Where {
		m, ok := e.(*search.Match)
		if !ok || m.Modifier != "" || len(m.Values) != 1 || skipInIndex(m.Param.Code) ||
			m.Param.Kind != search.Date && m.Param.Kind != search.Token && m.Param.Kind != search.Quantity && m.Param.Kind != search.Reference {
			continue
		}
		plan, err := p.c.param(m.Type, m.Param.Code)
		if err != nil {
			return err
		}
		if m.Param.Kind == search.Quantity && p.value == nil {
			p.value = p.byValue(plan, m.Values[0])
		}
		if isState(plan) && m.Values[0].Code != "" {
			p.state = stateIs(m.Values[0].Code)
		}
		if plan.mainDate {
			since += p.bound(m.Values[0])
		}
		// The hashes of system|code and |code stand in search_code as well, and those of references to what much refers to.
		if term, one := strings.CutPrefix(conditions[i], "x.tokens @> "); one && plan.mainCode && m.Values[0].Code != "" {
			p.code, p.lister = "("+term+")[1]", nil
		}
		if term, one := strings.CutPrefix(conditions[i], "x.refs @> "); one && p.code == "" && p.c.ix.complete && lists(plan, m, p.c.ix.base) {
			p.code, p.lister = "("+term+")[1]", m
		}
	}
	p.bounds = "x.type = " + number + p.dates.bounds("x.date_low")
	for i, one := range conditions {
		if strings.HasPrefix(one, "x.patient = $") {
			p.patient, p.frequent = one, p.isFrequent(q, i)
		}
	}
	// A term belongs to one type. Where there is one, an index on the type would only be read for nothing, unless what has the
	// term is much and a date bounds it.
	filter := "x.type = "
	if hasTerm(conditions) && (len(p.dates.low)+len(p.dates.high) == 0 && since == "" || p.code != "" || p.rare(q)) {
		filter = "x.type + 0 = "
	}
	p.where = filter + number + p.dates.bounds("x.date_low") + since + " AND " + conjunction(conditions)
	p.codeOnly = p.code != "" && len(conditions) == 1
	return nil
}

// lists says whether search_code has what a condition on a reference asks for.
func lists(plan *paramPlan, m *search.Match, base string) bool {
	ref := m.Values[0].Reference
	if m.Param.Kind != search.Reference || plan.listSalt == 0 || ref.ID == "" || ref.Version != "" || ref.Base != "" && ref.Base != base {
		return false
	}
	return isFrequentTarget(ref.Type) || ref.Type == "" && len(m.Param.Targets) == 1 && isFrequentTarget(m.Param.Targets[0])
}

// isFrequent says whether much of a record meets all conditions but that of the patient: a category or a status may, a code
// seldom does.
func (p *searchPlan) isFrequent(q *search.Query, patient int) bool {
	for i, e := range q.Where {
		if i == patient {
			continue
		}
		m, ok := e.(*search.Match)
		if !ok || m.Modifier != "" {
			return false
		}
		plan, err := p.c.param(m.Type, m.Param.Code)
		if err != nil || plan == nil || !plan.mainDate && (m.Param.Kind != search.Token || plan.rare || plan.mainCode) {
			return false
		}
	}
	return true
}

// hasTerm says whether a search can begin with a term in a GIN index, and with no patient, whose index has the type.
func hasTerm(conditions []string) (has bool) {
	for _, one := range conditions {
		if strings.HasPrefix(one, "x.patient ") {
			return false
		}
		has = has || strings.HasPrefix(one, "x.tokens ") || strings.HasPrefix(one, "x.refs ")
	}
	return has
}

// began is what follows for when another resource began from a condition on its main date, for the sake of the indexes; "" for nothing that helps.
// What the search itself is for, bound narrows.
func (c *compiler) began(x string, v search.Value) string {
	if x == "x" || c.was || c.others != "" || c.access == nil || !c.access.everything {
		return ""
	}
	var t time.Time
	switch v.Prefix {
	case "gt":
		t = v.High
	case "ge", "ap", search.Overlaps:
		t = v.Low
	default:
		return ""
	}
	return fmt.Sprintf("(%s.date_low > %s OR %s AND %s.date_high > %s) AND ", x, c.arg(timestamp(t.Add(-shortPeriod)), "timestamptz"),
		strings.ReplaceAll(longPeriod, "x.", x+"."), x, c.arg(timestamp(t), "timestamptz"))
}

// bound narrows the range of the main date by a condition on it, and returns what else follows from that.
func (p *searchPlan) bound(v search.Value) (since string) {
	at := func(t time.Time) string { return p.c.arg(timestamp(t), "timestamptz") }
	from := func(t time.Time) { p.dates.low = append(p.dates.low, at(t)) }
	to := func(t time.Time) { p.dates.high = append(p.dates.high, at(t)) }
	// A period that ends after t began a short while before it, or is a long one.
	after := func(t time.Time) string {
		since, ended := at(t.Add(-shortPeriod)), at(t)
		p.dates.since, p.dates.ended = append(p.dates.since, since), append(p.dates.ended, ended)
		return " AND (x.date_low > " + since + " OR " + longPeriod + " AND x.date_high > " + ended + ")"
	}
	switch v.Prefix {
	case "", "eq":
		from(v.Low)
		to(v.High)
		p.dates.closed++
	case "sa":
		from(v.High)
		p.dates.closed++
	case "lt":
		from(openStart)
		to(v.Low)
		p.dates.closed++
	case "le":
		from(openStart)
		to(v.High)
		p.dates.closed++
	case "eb", search.Includes:
		to(v.Low)
	case "ap", search.Overlaps:
		to(v.High)
		return after(v.Low)
	case "gt":
		return after(v.High)
	case "ge":
		return after(v.Low)
	}
	return ""
}
