package storage

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"kiln/fhir"
	"kiln/fhir/search"
)

// contains asks for any of the terms; a single one is a containment, which a GIN index intersects with others.
func (c *compiler) contains(column string, terms []int64) string {
	operator := "@>"
	if len(terms) != 1 {
		operator, terms = "&&", unique(terms)
	}
	c.termed = termsOf{fmt.Sprintf("%s %s %s", column, operator, c.arg(terms, "bigint[]")), column, terms}
	return c.termed.sql
}

func (c *compiler) token(m *search.Match, p *paramPlan, x string) (string, error) {
	column := x + ".tokens"
	if p.rare {
		column = x + ".refs"
	}
	var terms []int64
	for _, v := range m.Values {
		switch m.Modifier {
		case "", "not":
			terms = c.ix.askedTerms(terms, p.def.Key, v)
		case "of-type":
			terms = append(terms, c.ix.ofTypeTerm(p.def.Key, v.System, v.Code, v.OfType))
		case "text":
			return c.display(m, p, x)
		case "in", "not-in", "above", "below":
			found, err := c.concepts(p, m.Modifier, v)
			if err != nil {
				return "", err
			}
			terms = append(terms, found...)
		default:
			return "", notOffered(m)
		}
	}
	cond := c.contains(column, terms)
	if m.Modifier == "not" || m.Modifier == "not-in" {
		return "NOT (" + cond + ")", nil
	}
	return cond, nil
}

// askedTerms are the hashes of which a resource has one when a token value matches it. It mirrors codeTerms.
func (ix *Indexer) askedTerms(dst []int64, key uint32, v search.Value) []int64 {
	switch {
	case v.HasSystem && v.System == "":
		return append(dst, ix.hash.Term(key, termNoSystem, "", FoldCode(v.Code)))
	case v.HasSystem && v.Code == "":
		return append(dst, ix.hash.Term(key, termSystem, v.System, ""))
	case v.HasSystem:
		return append(dst, ix.hash.Term(key, termSystemCode, v.System, ix.caseOf(v.System, v.Code)))
	}
	return append(dst, ix.hash.Term(key, termCode, "", FoldCode(v.Code)), ix.hash.Term(key, termCode, "", caseMark+v.Code))
}

func (c *compiler) reference(m *search.Match, p *paramPlan, x string) (string, error) {
	var terms []int64
	patients, named := make([]int64, 0, len(m.Values)), 0 // named are the values that name Patients
	for _, v := range m.Values {
		ref := v.Reference
		if ref.Base != "" && ref.Base == c.ix.base {
			ref.Base = ""
		}
		switch {
		case m.Modifier == "identifier":
			terms = c.ix.askedTerms(terms, p.def.Key^identifierKey, v)
		case m.Modifier == "above" || m.Modifier == "below":
			return c.versions(m, p, x)
		case m.Modifier != "":
			return "", notOffered(m)
		case ref.ID == "" || ref.Base != "":
			terms = append(terms, c.ix.hash.Term(p.def.Key, termURI, v.Raw, ""))
		case ref.Version != "":
			terms = append(terms, c.ix.hash.Term(p.def.Key, termVersion, ref.Type+"/"+ref.ID+"/_history/"+ref.Version, ""))
		case ref.Type != "":
			if ref.Type != "Patient" {
				terms = append(terms, c.ix.hash.Resource(ref.Type, ref.ID)^p.saltTo(ref.Type))
				continue
			}
			named++
			for _, rk := range c.ix.samePatient(c.ix.hash.Resource(ref.Type, ref.ID)) {
				terms, patients = append(terms, rk^p.salt), append(patients, rk)
			}
		default:
			targets := m.Param.Targets
			if targets == nil {
				targets = c.ix.registry.Schema().Resources
			}
			for _, target := range targets {
				for _, rk := range c.ix.sameTarget(target, ref.ID) {
					terms = append(terms, rk^p.saltTo(target))
				}
			}
			if len(targets) == 1 && targets[0] == "Patient" {
				named++
				patients = append(patients, c.ix.sameTarget("Patient", ref.ID)...)
			}
		}
	}
	if named == len(m.Values) && c.impliesPatient(m.Type, p) {
		if len(patients) == 1 {
			return fmt.Sprintf("%s.patient = %s", x, c.arg(patients[0], "bigint")), nil
		}
		return fmt.Sprintf("%s.patient = ANY(%s)", x, c.arg(patients, "bigint[]")), nil
	}
	return c.contains(x+".refs", terms), nil
}

func (c *compiler) uri(m *search.Match, p *paramPlan, x string) (string, error) {
	var terms []int64
	for _, v := range m.Values {
		switch m.Modifier {
		case "":
			terms = append(terms, c.ix.hash.Term(p.def.Key, termURI, v.Raw, ""))
		case "above": // every address that the value lies below, and the value itself
			terms = append(terms, c.ix.hash.Term(p.def.Key, termURI, v.Raw, ""))
			for i := len(v.Raw) - 1; i > 0; i-- {
				if v.Raw[i] == '/' {
					terms = append(terms, c.ix.hash.Term(p.def.Key, termURI, v.Raw[:i], ""), c.ix.hash.Term(p.def.Key, termURI, v.Raw[:i+1], ""))
				}
			}
		case "below":
			return c.side("search_string", p.def.Key, m.Values, x, func(v search.Value) (string, error) {
				slash := strings.TrimSuffix(v.Raw, "/") + "/"
				return fmt.Sprintf("(s.value = %s OR %s)", c.arg(v.Raw, "text"), c.prefix(slash)), nil
			})
		default:
			return "", notOffered(m)
		}
	}
	return c.contains(x+".refs", terms), nil
}

func (c *compiler) string(m *search.Match, p *paramPlan, x string) (string, error) {
	if m.Modifier == "exact" {
		var terms []int64
		for _, v := range m.Values {
			terms = append(terms, c.ix.hash.Term(p.def.Key, termExact, v.Raw, ""))
		}
		return c.contains(x+".refs", terms), nil
	}
	parts := make([]string, len(m.Values))
	for i, v := range m.Values {
		parts[i] = foldIndexed(v.Raw)
	}
	if m.Modifier != "" {
		return c.partial(p.def.Key, parts, true, x), nil
	}
	if len(parts) > fewValues {
		return c.prefixes(p.def.Key, parts, x), nil
	}
	return c.side("search_string", p.def.Key, m.Values, x, func(v search.Value) (string, error) {
		return c.prefix(foldIndexed(v.Raw)), nil
	})
}

// partial is the condition that a text of a parameter has one of some parts, or ends with one where open is false. The texts are
// found first, each once, and then what has them.
func (c *compiler) partial(key uint32, parts []string, open bool, x string) string {
	param := c.arg(int32(key), "integer")
	patterns := make([]string, len(parts))
	for i, part := range parts {
		pattern := "%" + likeEscaper.Replace(part)
		if open {
			pattern += "%"
		}
		patterns[i] = " LIKE " + c.arg(pattern, "text")
	}
	like := func(column string) string { return "(" + column + strings.Join(patterns, " OR "+column) + ")" }
	rows, row := c.table("search_string", x), "s.param = "+param+" AND "+like("s.value")
	indexed := !slices.ContainsFunc(parts, func(part string) bool { return !hasTrigrams(part) })
	if x == "x" && c.was || x != "x" && c.others != "" { // the texts of versions that are past stand nowhere once
		return fmt.Sprintf("%s.rk IN (SELECT s.rk FROM %s s WHERE %s)", x, rows, row)
	}
	p, value := &partialText{param: "s.param = " + param, row: row}, "t.value"
	if !indexed {
		value = "(t.value || '')" // the index of trigrams would be read to its end, where the first texts in order may do
	}
	p.texts = fmt.Sprintf("SELECT DISTINCT t.value FROM %s t WHERE t.param = %s AND %s", c.table("search_string_value", x), param, like(value))
	p.all = fmt.Sprintf("%s.rk IN (SELECT s.rk FROM %s s WHERE s.param = %s AND s.value IN (%s))", x, rows, param, p.texts)
	if !indexed { // all texts of the parameter are gone through either way
		p.all = fmt.Sprintf("%s.rk IN (SELECT s.rk FROM %s s WHERE %s)", x, rows, row)
	}
	c.partials = append(c.partials, p)
	if x == "x" && (!indexed || len(parts) > fewValues) {
		c.closer = append(c.closer, p.all, fmt.Sprintf("EXISTS (SELECT FROM %s s WHERE s.rk = x.rk AND %s OFFSET 0)", rows, row))
	}
	return c.asked(p.all)
}

// hasTrigrams says whether the index of trigrams tells anything of texts with a part: three letters or digits in a row.
func hasTrigrams(part string) bool {
	n := 0
	for _, r := range part {
		if n++; !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			n = 0
		} else if n == 3 {
			return true
		}
	}
	return false
}

// partialText is a condition on a part of a text: all on a resource, row on a row of search_string, param its part on the parameter.
// texts is a query of the texts with it.
type partialText struct{ all, row, param, texts string }

var likeEscaper = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)

// prefixes is the condition that a text of a parameter begins with one of many texts. Of those that begin alike the shortest counts: the ranges are apart then, and
// which a text may lie in is found by halves.
func (c *compiler) prefixes(key uint32, list []string, x string) string {
	slices.Sort(list)
	var lows, highs []string
	for _, low := range list {
		if n := len(lows); n == 0 || !strings.HasPrefix(low, lows[n-1]) {
			lows, highs = append(lows, low), append(highs, low+"\U0010FFFF")
		}
	}
	param, from, to := c.arg(int32(key), "integer"), c.arg(lows, "text[]"), c.arg(highs, "text[]")
	within := fmt.Sprintf("s.value < (%s)[width_bucket(s.value, %s)]", to, from)
	set := ""
	if !c.was || x != "x" {
		set = fmt.Sprintf("SELECT s.rk FROM unnest(%s, %s) AS w(low, high), LATERAL (SELECT s.rk FROM %s s WHERE s.param = %s AND s.value >= w.low AND s.value < w.high OFFSET 0) s",
			from, to, c.table("search_string", x), param)
	}
	return c.beside("search_string", param, within, set, x, true)
}

// prefix bounds s.value to what begins with p; the collation is C, so the order is that of the bytes.
func (c *compiler) prefix(p string) string {
	return fmt.Sprintf("(s.value >= %s AND s.value < %s)", c.arg(p, "text"), c.arg(p+"\U0010FFFF", "text"))
}

// instantCondition compares an instant with a range.
func (c *compiler) instantCondition(column string, v search.Value) string {
	low := func() string { return c.arg(timestamp(v.Low), "timestamptz") }
	high := func() string { return c.arg(timestamp(v.High), "timestamptz") }
	switch v.Prefix {
	case "gt", "sa":
		return column + " >= " + high()
	case "ge":
		return column + " >= " + low()
	case "lt", "eb":
		return column + " < " + low()
	case "le":
		return column + " < " + high()
	case "ne":
		return fmt.Sprintf("NOT (%s >= %s AND %s < %s)", column, low(), column, high())
	}
	return fmt.Sprintf("(%s >= %s AND %s < %s)", column, low(), column, high())
}

// dateCondition compares two half-open ranges (FHIR R4 search.html#prefix).
func (c *compiler) dateCondition(columnLow, columnHigh string, v search.Value) string {
	low := func() string { return c.arg(timestamp(v.Low), "timestamptz") }
	high := func() string { return c.arg(timestamp(v.High), "timestamptz") }
	within := func() string { return fmt.Sprintf("(%s >= %s AND %s <= %s)", columnLow, low(), columnHigh, high()) }
	switch v.Prefix {
	case "gt":
		return columnHigh + " > " + high()
	case "ge":
		return fmt.Sprintf("(%s > %s OR %s)", columnHigh, high(), within())
	case "lt":
		return columnLow + " < " + low()
	case "le":
		return fmt.Sprintf("(%s < %s OR %s)", columnLow, low(), within())
	case "sa":
		return columnLow + " >= " + high()
	case "eb":
		return columnHigh + " <= " + low()
	case "ne":
		return "NOT " + within()
	case "ap", search.Overlaps:
		return fmt.Sprintf("(%s < %s AND %s > %s)", columnLow, high(), columnHigh, low())
	case search.Includes:
		return fmt.Sprintf("(%s <= %s AND %s >= %s)", columnLow, low(), columnHigh, high())
	}
	// What ends by then begins before: for the sake of an index on where it begins.
	return fmt.Sprintf("(%s AND %s < %s)", within(), columnLow, high())
}

// numberCondition compares a stored number or range with a value; bounds gives a placeholder for a bound.
func numberCondition(columnLow, columnHigh string, v search.Value, bound func(fhir.Decimal) string) string {
	switch v.Prefix {
	case "gt":
		return columnHigh + " > " + bound(v.Number)
	case "ge":
		return columnHigh + " >= " + bound(v.Number)
	case "lt":
		return columnLow + " < " + bound(v.Number)
	case "le":
		return columnLow + " <= " + bound(v.Number)
	case "sa":
		return columnLow + " > " + bound(v.Number)
	case "eb":
		return columnHigh + " < " + bound(v.Number)
	case "ap":
		low, high := v.Number.ApproximateRange()
		return fmt.Sprintf("(%s >= %s AND %s <= %s)", columnHigh, bound(low), columnLow, bound(high))
	case search.Includes: // the stored number, as precise as it is written, includes the value
		return fmt.Sprintf("(%s - 0.5 * power(10::numeric, -scale(%s::numeric)) <= %s AND %s + 0.5 * power(10::numeric, -scale(%s::numeric)) > %s)",
			columnLow, columnLow, bound(v.Number), columnHigh, columnHigh, bound(v.Number))
	}
	low, high := v.Number.ImpliedRange()
	within := fmt.Sprintf("(%s >= %s AND %s < %s)", columnLow, bound(low), columnHigh, bound(high))
	if v.Prefix == "ne" {
		return "NOT " + within
	}
	return within
}

// indexedNumber is numberCondition for the sake of indexes on where numbers begin, and on where those end that end elsewhere: what it
// says of the end of one, nearly always holds for its beginning, too.
func indexedNumber(columnLow, columnHigh string, v search.Value, bound func(fhir.Decimal) string) string {
	ends := func(operator, at string) string {
		return fmt.Sprintf("(%s %s %s OR %s > %s AND %s %s %s)", columnLow, operator, at, columnHigh, columnLow, columnHigh, operator, at)
	}
	switch v.Prefix {
	case "gt":
		return ends(">", bound(v.Number))
	case "ge":
		return ends(">=", bound(v.Number))
	case "ap":
		low, high := v.Number.ApproximateRange()
		return fmt.Sprintf("(%s <= %s AND %s)", columnLow, bound(high), ends(">=", bound(low)))
	case "eb":
		return fmt.Sprintf("(%s AND %s < %s)", numberCondition(columnLow, columnHigh, v, bound), columnLow, bound(v.Number))
	case "", "eq":
		_, high := v.Number.ImpliedRange()
		return fmt.Sprintf("(%s AND %s < %s)", numberCondition(columnLow, columnHigh, v, bound), columnLow, bound(high))
	}
	return numberCondition(columnLow, columnHigh, v, bound)
}

func (c *compiler) decimal(d fhir.Decimal) string { return c.arg(d.String(), "text") + "::numeric" }

// quantityCondition compares a number or quantity; with a UCUM unit it compares across units.
func (c *compiler) quantityCondition(v search.Value) string {
	if unit, factor, ok := c.canonicalUnit(v); ok {
		return fmt.Sprintf("(s.canonical = %s AND %s)", c.arg(unit, "bigint"),
			indexedNumber("s.canonical_low", "s.canonical_high", v, factor))
	}
	cond := indexedNumber("s.low", "s.high", v, c.decimal)
	if v.Code == "" && v.System == "" {
		return cond
	}
	return fmt.Sprintf("(s.units @> %s AND %s)", c.arg(c.unitTerm(v), "bigint[]"), cond)
}

func (c *compiler) unitTerm(v search.Value) []int64 {
	switch {
	case v.Code == "":
		return []int64{c.ix.hash.Term(unitKey, termSystem, v.System, "")}
	case v.System != "":
		return []int64{c.ix.hash.Term(unitKey, termSystemCode, v.System, v.Code)}
	}
	return []int64{c.ix.hash.Term(unitKey, termCode, "", v.Code)}
}

// canonicalUnit gives the hash of the base unit of a value in UCUM, and how to bring its bounds into that unit.
func (c *compiler) canonicalUnit(v search.Value) (unit int64, bound func(fhir.Decimal) string, ok bool) {
	q := c.ix.canonical(v.System, v.Code, "1", "1")
	if q == nil {
		return 0, nil, false
	}
	return q.unit, func(d fhir.Decimal) string {
		scaled := c.ix.canonical(v.System, v.Code, d.String(), d.String())
		if scaled == nil {
			return "NULL"
		}
		return c.arg(scaled.low, "double precision")
	}, true
}

// compositeCondition asks that one row of search_composite meets all parts.
func (c *compiler) compositeCondition(p *paramPlan, param search.Param, v search.Value) (string, error) {
	parts := make([]string, 0, len(v.Parts))
	numbers := 0
	for i, part := range v.Parts {
		key := componentKey(p.def.Key, i)
		switch param.Components[i].Kind {
		case search.Token:
			parts = append(parts, c.contains("s.tokens", c.ix.askedTerms(nil, key, part)))
		case search.Reference, search.URI:
			salt := c.ix.hash.Salt(key)
			terms := c.ix.askedReference(key, salt, param.Components[i].Targets, part)
			parts = append(parts, c.contains("s.tokens", terms))
		case search.String:
			parts = append(parts, c.prefix(foldIndexed(part.Raw)))
		case search.Date:
			parts = append(parts, c.dateCondition("s.date_low", "s.date_high", part))
		case search.Number, search.Quantity:
			numbers++
			if numbers == 2 {
				parts = append(parts, numberCondition("s.low2", "s.high2", part, c.decimal))
				continue
			}
			if unit, bound, ok := c.canonicalUnit(part); ok {
				parts = append(parts, c.contains("s.tokens", []int64{unit}), numberCondition("s.canonical_low", "s.canonical_high", part, bound))
				continue
			}
			parts = append(parts, numberCondition("s.low", "s.high", part, c.decimal))
			if part.Code != "" || part.System != "" {
				parts = append(parts, c.contains("s.tokens", c.unitTerm(part)))
			}
		}
	}
	return "(" + conjunction(parts) + ")", nil
}

// askedReference are the terms of a reference component.
func (ix *Indexer) askedReference(key uint32, salt int64, targets []string, v search.Value) []int64 {
	ref := v.Reference
	switch {
	case ref.ID == "" || ref.Base != "" && ref.Base != ix.base:
		return []int64{ix.hash.Term(key, termURI, v.Raw, "")}
	case ref.Type != "":
		return salted(ix.sameTarget(ref.Type, ref.ID), salt)
	}
	if targets == nil {
		targets = ix.registry.Schema().Resources
	}
	var terms []int64
	for _, t := range targets {
		terms = append(terms, salted(ix.sameTarget(t, ref.ID), salt)...)
	}
	return terms
}

func salted(rks []int64, salt int64) []int64 {
	list := make([]int64, len(rks))
	for i, rk := range rks {
		list[i] = rk ^ salt
	}
	return list
}

// fewValues is up to how many alternatives of one parameter the planner is left to choose with: it takes the rows that have one of many for few.
const fewValues = 4

// side asks for a row in a table of values. Values are alternatives.
func (c *compiler) side(table string, key uint32, values []search.Value, x string, cond func(search.Value) (string, error)) (string, error) {
	param := c.arg(int32(key), "integer")
	any, err := disjunction(values, cond)
	return c.beside(table, param, any, "", x, len(values) > fewValues), err
}

// beside asks for a row s of a parameter in a table of values that meets a condition. set is a query of the keys of those rows, "" for the plain one; many says
// that a look at some rows is to ask each for its values, and not to find all.
func (c *compiler) beside(table, param, cond, set, x string, many bool) string {
	rows := c.table(table, x)
	row := fmt.Sprintf("EXISTS (SELECT FROM %s s WHERE s.rk = %s.rk AND s.param = %s AND %s OFFSET 0)", rows, x, param, cond)
	if c.joins++; c.joins > maxJoins {
		return row
	}
	if set == "" {
		set = fmt.Sprintf("SELECT s.rk FROM %s s WHERE s.param = %s AND %s", rows, param, cond)
	}
	in := "%s.rk IN (%s)"
	if many { // as keys, whatever number of them the planner expects: it would read all of the type beside them
		in = "%s.rk = ANY(ARRAY(%s))"
	}
	set = fmt.Sprintf(in, x, set)
	switch {
	case c.was || c.others != "":
	case x != "x":
		c.innerRow = append(c.innerRow, set, row)
	default:
		c.perRow = append(c.perRow, set, row)
		if many {
			c.closer = append(c.closer, set, row)
		}
	}
	return set
}
