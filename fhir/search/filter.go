package search

import (
	"fmt"
	"slices"

	"kiln/fhir"
)

// Modifiers that only _filter can ask for. They begin with "=", which no modifier in a URL can.
const (
	// Equals compares a string as a whole, StartsWith, EndsWith and Contains a part of it.
	Equals, StartsWith, EndsWith, Contains = "=eq", "=sw", "=ew", "=co"
	// Unequal asks for a value that is another one; a resource without any value does not match.
	Unequal = "=ne"
	// Ordered compares a string with Value.Prefix (gt, lt, ge, le) in the order of Unicode code points.
	Ordered = "=order"
)

// Prefixes that only _filter can ask for: a stored range that includes the value, and one that overlaps it.
const (
	Includes = "co"
	Overlaps = "po"
)

// filterSystems are the names that a filter may write for well-known systems (R4 search_filter.html#ops).
var filterSystems = map[string]string{
	"loinc": "http://loinc.org", "snomed": "http://snomed.info/sct",
	"rxnorm": "http://www.nlm.nih.gov/research/umls/rxnorm", "ucum": "http://unitsofmeasure.org",
}

// filterGroups are the names that take a filter and a part, which both look at one repetition of an element (R4
// search_filter.html#params), as the composite parameters of R4 can answer them. The parts stand in its order.
var filterGroups = map[string]struct {
	composite string
	parts     []string
}{
	"DocumentReference.relatesTo": {"relationship", []string{"target", "code"}},
	"Group.characteristic":        {"characteristic-value", []string{"code", "value"}},
}

// filterFault is what is wrong with a filter, and where. absent marks a parameter that the type lacks.
type filterFault struct {
	at     int // byte offset
	code   string
	absent bool
	text   string
}

func faultAt(at int, code, format string, args ...any) *filterFault {
	return &filterFault{at: at, code: code, text: fmt.Sprintf(format, args...)}
}

// filter reads _filter (R4 search_filter.html).
func (p *parser) filter(text string) bool {
	r := &filterReader{text: text}
	node, fault := r.whole()
	var any Or
	var absent *filterFault
	for _, typ := range p.searched() {
		if fault != nil {
			break
		}
		b := &filterBuilder{p: p}
		var e Expr
		if e, fault = b.build(node, typ); fault != nil {
			if fault.absent && len(p.searched()) > 1 {
				absent, fault = fault, nil // a search of several types: another may have the parameter
			}
			continue
		}
		any = append(any, p.typed(typ, e))
	}
	if fault == nil && len(any) == 0 {
		fault = absent
	}
	switch {
	case fault != nil && fault.absent:
		return p.unknown("_filter", "at character %d: %s", characters(text, fault.at), fault.text)
	case fault != nil && fault.code != fhir.CodeTooCostly:
		return p.ignorable("_filter", fault.code, "at character %d: %s", characters(text, fault.at), fault.text)
	case fault != nil:
		return p.fail("_filter", fault.code, "at character %d: %s", characters(text, fault.at), fault.text)
	case len(any) == 1:
		return p.where(any[0])
	}
	return p.where(any)
}

// characters is the number, counted from 1, of the character at a byte offset.
func characters(text string, at int) int { return len([]rune(text[:min(at, len(text))])) + 1 }

// typed ties a condition to its type where several types are searched: parameters share columns, and "not" holds for
// whatever lacks the parameter.
func (p *parser) typed(typ string, e Expr) Expr {
	if len(p.searched()) == 1 {
		return e
	}
	return And{&IsType{typ}, e}
}

// filterBuilder turns a filter that is read into the conditions that it means for one type.
type filterBuilder struct {
	p     *parser
	tests int
}

func (b *filterBuilder) build(n *filterNode, typ string) (Expr, *filterFault) {
	if n.test != nil {
		return b.path(n.test, 0, typ)
	}
	list := make([]Expr, 0, len(n.kids))
	for _, kid := range n.kids {
		e, fault := b.build(kid, typ)
		if fault != nil {
			return nil, fault
		}
		list = append(list, e)
	}
	switch n.operator {
	case "not":
		return Not{list[0]}, nil
	case "or":
		return Or(list), nil
	}
	return And(list), nil
}

// path follows the steps of a test from the i-th on.
func (b *filterBuilder) path(t *filterTest, i int, typ string) (Expr, *filterFault) {
	step := t.steps[i]
	if group, ok := filterGroups[typ+"."+step.name]; ok {
		return b.group(t, i, typ, group.composite, group.parts)
	}
	param, ok := b.p.catalog.Param(typ, step.name)
	if !ok {
		fault := faultAt(step.at, fhir.CodeNotSupported, "%s has no search parameter %q.", typ, step.name)
		if near := nearest(step.name, b.p.catalog.Codes(typ)); len(near) > 0 {
			fault.text += " Did you mean " + near[0] + "?"
		}
		fault.absent = true
		return nil, fault
	}
	if i == len(t.steps)-1 {
		if b.tests++; b.tests > MaxFilterTests {
			return nil, faultAt(step.at, fhir.CodeTooCostly, "it comes to more than %d tests; name the types in chains, as in subject:Patient.name.", MaxFilterTests)
		}
		return b.compare(t, typ, param)
	}
	if param.Kind != Reference {
		return nil, faultAt(step.at, fhir.CodeInvalid, "%s is no reference parameter of %s, so nothing can be chained to it.", param.Code, typ)
	}
	targets := param.Targets
	switch {
	case step.target != "":
		if !b.p.catalog.IsResource(step.target) || targets != nil && !slices.Contains(targets, step.target) {
			return nil, faultAt(step.at, fhir.CodeInvalid, "%s of %s does not refer to %q.", param.Code, typ, step.target)
		}
		targets = []string{step.target}
	case targets == nil:
		targets = b.p.catalog.ResourceTypes()
	}
	var any Or
	var absent *filterFault
	for _, target := range targets {
		where, fault := b.path(t, i+1, target)
		if fault == nil && step.filter != nil { // what the filter asks holds for the same resource
			var e Expr
			e, fault = b.build(step.filter, target)
			where = And{e, where}
		}
		switch {
		case fault != nil && fault.absent:
			absent = fault
		case fault != nil:
			return nil, fault
		default:
			any = append(any, &Chain{Type: typ, Param: param, Target: target, Where: where})
		}
	}
	if len(any) == 0 {
		return nil, absent
	}
	if len(any) == 1 {
		return any[0], nil
	}
	return any, nil
}

// group reads name[part eq value].part as a search by the composite parameter of both parts.
func (b *filterBuilder) group(t *filterTest, i int, typ, composite string, parts []string) (Expr, *filterFault) {
	step := t.steps[i]
	param, ok := b.p.catalog.Param(typ, composite)
	form := fmt.Sprintf("it must have the form %s[%s eq value].%s eq value, or the other way round.", step.name, parts[0], parts[1])
	if !ok || len(param.Components) != 2 || step.filter == nil || step.filter.test == nil || len(step.filter.test.steps) != 1 || len(t.steps) != i+2 {
		return nil, faultAt(step.at, fhir.CodeNotSupported, "%s", form)
	}
	m := &Match{Type: typ, Param: param, Values: []Value{{Parts: make([]Value, 2)}}}
	filled := 0
	for _, half := range []struct {
		name string
		t    *filterTest
	}{{step.filter.test.steps[0].name, step.filter.test}, {t.steps[i+1].name, t}} {
		at := slices.Index(parts, half.name)
		if at < 0 || half.t.operator != "eq" && half.t.operator != "re" {
			return nil, faultAt(half.t.at, fhir.CodeNotSupported, "%s", form)
		}
		v, reason := b.p.value(param.Components[at], "", filterValue(param.Components[at].Kind, half.t.value))
		if reason != "" {
			return nil, faultAt(half.t.valueAt, fhir.CodeValue, "%s", reason)
		}
		m.Values[0].Parts[at] = v
		filled |= 1 << at
	}
	if filled != 3 {
		return nil, faultAt(step.at, fhir.CodeNotSupported, "%s", form)
	}
	return m, nil
}

// filterOperators are the operators that go with a kind of parameter, and what Match says them by: a prefix (of the
// values) or a modifier (R4 search_filter.html#ops). Beyond that table, eq of a reference means re.
var filterOperators = map[Kind]map[string]string{
	String:    {"eq": Equals, "ne": Unequal, "co": Contains, "sw": StartsWith, "ew": EndsWith, "gt": Ordered, "lt": Ordered, "ge": Ordered, "le": Ordered},
	URI:       {"eq": "", "ne": Unequal, "co": Contains, "sw": StartsWith, "ew": EndsWith},
	Token:     {"eq": "", "ne": Unequal, "in": "in", "ni": "not-in", "ss": "below", "sb": "above"},
	Reference: {"eq": "", "re": ""},
	Number:    filterPrefixes,
	Quantity:  quantityPrefixes,
	Date:      filterPrefixes,
	Composite: {"eq": ""},
	Special:   {"eq": ""},
}

var (
	filterPrefixes   = map[string]string{"eq": "", "ne": "", "gt": "", "lt": "", "ge": "", "le": "", "sa": "", "eb": "", "ap": "", Includes: ""}
	quantityPrefixes = map[string]string{"eq": "", "ne": "", "gt": "", "lt": "", "ge": "", "le": "", "sa": "", "eb": "", "ap": ""}
)

// compare reads one operator and its value.
func (b *filterBuilder) compare(t *filterTest, typ string, param Param) (Expr, *filterFault) {
	if t.operator == "pr" {
		if t.value != "true" && t.value != "false" {
			return nil, faultAt(t.valueAt, fhir.CodeValue, "pr takes true or false.")
		}
		return &Missing{Type: typ, Param: param, Missing: t.value == "false"}, nil
	}
	modifier, ok := filterOperators[param.Kind][t.operator]
	if t.operator == Overlaps && param.Kind == Date {
		ok = true
	}
	if isText(param) {
		modifier, ok = "", t.operator == "co" || t.operator == "eq"
	}
	if !ok {
		return nil, faultAt(t.at, fhir.CodeNotSupported, "the operator %s does not go with %s, a parameter of type %s.", t.operator, param.Code, param.Kind)
	}
	raw, prefix := filterValue(param.Kind, t.value), ""
	switch param.Kind {
	case Number, Quantity, Date:
		prefix = t.operator
		if prefix == Includes || prefix == Overlaps {
			raw = "eq" + raw
		} else {
			raw = prefix + raw
		}
	case String:
		prefix = t.operator
	}
	v, reason := b.p.value(param, modifier, raw)
	if reason != "" {
		return nil, faultAt(t.valueAt, fhir.CodeValue, "%s", reason)
	}
	if prefix != "" {
		v.Prefix = prefix
	}
	return &Match{Type: typ, Param: param, Modifier: modifier, Values: []Value{v}}, nil
}
