package search

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"kiln/fhir"
)

// Options shape how a query is read.
type Options struct {
	// Types are the resource types searched; nil for the whole system, where _type may narrow.
	Types []string
	// Open says that _type may narrow Types too: they are those of a whole compartment.
	Open bool
	// Lenient ignores unknown parameters and says so in Query.Issues; otherwise they are errors.
	Lenient bool
	// Zone is where dates without an offset are read, unless _timezone says otherwise; nil is UTC.
	Zone *time.Location
	// Now is the moment that the prefix ap measures from.
	Now time.Time
	// ConditionsOnly refuses result parameters (_sort, _count …): the criteria of a conditional interaction have none.
	ConditionsOnly bool
}

// Parse reads the parameters of a search. All faults are reported together.
//
// Errors: Invalid, with an issue for each parameter that is unknown or malformed.
func Parse(pairs []Pair, catalog Catalog, o Options) (*Query, error) {
	p := &parser{catalog: catalog, options: o, query: &Query{Count: -1}}
	for _, pair := range pairs { // _type decides which parameters there are
		switch {
		case pair.Name == "_type" && p.narrows():
			p.types(pair.Value)
		case pair.Name == "_timezone" && !o.ConditionsOnly: // how dates are read
			p.zone(pair.Value)
		}
	}
	if p.query.Types == nil {
		p.query.Types = o.Types
	}
	for _, pair := range pairs {
		switch {
		case pair.Value != "" || pair.Name == "_format" || pair.Name == "_pretty":
		case o.ConditionsOnly: // it would say nothing, and what is written or opened would be more than is meant
			p.fail(pair.Name, fhir.CodeValue, "it has no value, and criteria leave out none of their conditions.")
			continue
		case !strings.HasPrefix(pair.Name, "_"):
			continue // an empty parameter says nothing (R4 search.html#escaping)
		}
		if p.parameter(pair) {
			if slices.Contains(single, pair.Name) { // the last one counts, and the links say no other
				p.query.Applied = slices.DeleteFunc(p.query.Applied, func(before Pair) bool { return before.Name == pair.Name })
			}
			p.query.Applied = append(p.query.Applied, pair)
		}
	}
	p.sortNear()
	if len(p.issues) > 0 {
		return nil, &fhir.Error{Kind: fhir.Invalid, Issues: p.issues}
	}
	return p.query, nil
}

// single are the parameters of which a search has one value.
var single = []string{"_count", "_total", "_summary", "_contained", "_containedType", "_timezone", "_explain"}

type parser struct {
	catalog Catalog
	options Options
	query   *Query
	issues  []fhir.Issue
	listing listing // that of mayList last
}

// fail records a fault of a parameter.
func (p *parser) fail(name, code, format string, args ...any) bool {
	if len(name) > 200 {
		name = name[:200] + "…"
	}
	text := fmt.Sprintf(format, args...)
	if len(text) > 600 {
		text = text[:600] + "…"
	}
	p.issues = append(p.issues, fhir.Issue{Severity: fhir.SeverityError, Code: code,
		Text: fmt.Sprintf("Search parameter %s: %s", strconv.Quote(strings.ToValidUTF8(name, "?")), strings.ToValidUTF8(text, "?"))})
	return false
}

// unknown handles a parameter that does not exist: an error, or with lenient handling a warning.
func (p *parser) unknown(name, format string, args ...any) bool {
	return p.ignorable(name, fhir.CodeNotSupported, format, args...)
}

// malformed handles a value that cannot be read as unknown does a parameter. Modifiers that do not go with a parameter are errors
// in any case (R4 search.html#modifiers), and so is what is beyond a limit.
func (p *parser) malformed(name, format string, args ...any) bool {
	return p.ignorable(name, fhir.CodeValue, format, args...)
}

func (p *parser) ignorable(name, code, format string, args ...any) bool {
	before := len(p.issues)
	p.fail(name, code, format, args...)
	if p.options.Lenient && !p.options.ConditionsOnly {
		issue := p.issues[before]
		issue.Severity = fhir.SeverityWarning
		issue.Text += " It was ignored."
		p.issues = p.issues[:before]
		p.query.Issues = append(p.query.Issues, issue)
	}
	return false
}

// zone reads the name of a time zone.
func (p *parser) zone(name string) {
	zone, err := time.LoadLocation(name)
	if err != nil || name == "" || name == "Local" {
		p.unknown("_timezone", "%q is no time zone: it takes a name such as Europe/Oslo.", name)
		return
	}
	p.query.Zone = zone
}

// narrows says whether the search may have a parameter _type.
func (p *parser) narrows() bool { return p.options.Types == nil || p.options.Open }

func (p *parser) types(list string) {
	for _, t := range strings.Split(list, ",") {
		if !p.catalog.IsResource(t) {
			p.fail("_type", fhir.CodeValue, "%q is no resource type of FHIR R4.", t)
			continue
		}
		if p.options.Open && !slices.Contains(p.options.Types, t) {
			p.fail("_type", fhir.CodeValue, "%s is not in this compartment.", t)
			continue
		}
		if !slices.Contains(p.query.Types, t) {
			p.query.Types = append(p.query.Types, t)
		}
	}
}

// unmodified are the parameters that have no modifiers, whatever they are of.
var unmodified = []string{"_type", "_sort", "_count", "_total", "_summary", "_elements", "_contained", "_containedType", "_filter", "_list", "_in",
	"_timezone", "_explain"}

// parameter reads one parameter and says whether it took effect.
func (p *parser) parameter(pair Pair) bool {
	name := pair.Name
	base, modifier, modified := strings.Cut(name, ":")
	if modified && slices.Contains(unmodified, base) {
		return p.fail(name, fhir.CodeInvalid, "%s takes no modifier such as :%s.", base, modifier)
	}
	switch base {
	case "_format", "_pretty":
		return false
	case "_type":
		if p.narrows() {
			return true
		}
	case "_sort", "_count", "_total", "_summary", "_elements", "_contained", "_containedType", "_include", "_revinclude",
		"_cursor", "_explain", "_timezone":
		if p.options.ConditionsOnly {
			return p.fail(name, fhir.CodeInvalid, "it shapes results and has no place in criteria.")
		}
		return p.result(base, pair)
	case "_has":
		e := p.has(name, name, pair.Value, p.searched(), 0)
		return p.where(e)
	case "_filter":
		return p.filter(pair.Value)
	case "_list", "_in":
		return p.where(p.listed(name, base, pair.Value, p.searched()))
	}
	return p.where(p.condition(name, name, pair.Value, p.searched(), 0))
}

func (p *parser) where(e Expr) bool {
	if e == nil {
		return false
	}
	p.query.Where = append(p.query.Where, e)
	return true
}

// searched are the types that a top-level parameter is asked of.
func (p *parser) searched() []string {
	if p.query.Types == nil {
		return p.catalog.ResourceTypes()
	}
	return p.query.Types
}

// condition reads name=value asked of any of types; full is the whole parameter name, for messages.
func (p *parser) condition(full, name, value string, types []string, depth int) Expr {
	if depth > MaxChain {
		p.issues = append(p.issues, tooMuch("A chain has more than %d steps.", MaxChain).Issues...)
		return nil
	}
	head, rest, chained := strings.Cut(name, ".")
	code, modifier, _ := strings.Cut(head, ":")
	switch {
	case code == "_has":
		return p.has(full, name, value, types, depth)
	case (code == "_list" || code == "_in") && name != code:
		p.fail(full, fhir.CodeInvalid, "%s takes no modifier, and nothing is chained to it.", code)
		return nil
	case code == "_list" || code == "_in":
		return p.listed(full, code, value, types)
	}
	if depth > 0 && value == "" {
		p.malformed(full, "it has no value.")
		return nil
	}
	var any Or
	var ids *Match // of the type before
	misfit := ""   // a type whose parameter does not go with the modifier
	astray := ""   // a type whose parameter does not lead to the type that the modifier names
	nowhere := ""  // a type whose parameter leads to none that can be asked the rest
	for _, typ := range types {
		param, ok := p.catalog.Param(typ, code)
		if !ok {
			if len(types) > 1 && (depth > 0 || p.query.Types == nil) {
				continue // a system search: some of the types will have it
			}
			p.unknownParam(full, typ, code)
			return nil
		}
		if len(types) > 1 && p.query.Types == nil && modifier != "" && !p.catalog.IsResource(modifier) && !p.takes(param, modifier, chained) {
			misfit = typ
			continue // it is of another type there
		}
		if param.Kind == Reference && p.catalog.IsResource(modifier) && !param.leadsTo(modifier) {
			astray = typ
			continue // none of this type matches; another of the types may
		}
		if chained && modifier == "" && len(types) > 1 && p.query.Types == nil && !p.leads(param, rest, value) {
			nowhere = typ
			continue // likewise
		}
		var e Expr
		switch {
		case chained:
			e = p.chain(full, typ, param, modifier, rest, value, depth)
		case ids != nil: // a thousand may be asked for, of any of some hundred types
			e = &Match{Type: typ, Param: param, Modifier: ids.Modifier, Values: ids.Values}
		default:
			e = p.match(full, typ, param, modifier, value)
		}
		if e == nil {
			return nil
		}
		if code == "_id" && !chained {
			ids, _ = e.(*Match)
		}
		if depth == 0 && len(types) > 1 {
			if m, ok := e.(*Match); ok && (code == "_lastUpdated" || isText(param)) {
				m.Type = "" // it is the same for all types
				return m
			}
			e = p.typed(typ, e)
		}
		any = append(any, e)
	}
	switch {
	case len(any) == 1:
		return any[0]
	case len(any) == 0 && astray != "":
		p.fail(full, fhir.CodeInvalid, "%s of %s does not refer to %q.", code, astray, modifier)
		return nil
	case len(any) == 0 && misfit != "":
		p.fail(full, fhir.CodeInvalid, "the modifier :%s does not go with it, for instance of %s.", modifier, misfit)
		return nil
	case len(any) == 0 && nowhere != "":
		param, _ := p.catalog.Param(nowhere, code)
		return p.chain(full, nowhere, param, "", rest, value, depth) // which says why not
	case len(any) == 0:
		p.unknown(full, "no resource type that it could be asked of has a parameter %q.", code)
		return nil
	}
	return any
}

func (p *parser) unknownParam(full, typ, code string) {
	hint := ""
	if near := nearest(code, p.catalog.Codes(typ)); len(near) > 0 {
		hint = " Did you mean " + strings.Join(near, ", ") + "?"
	}
	p.unknown(full, "%s has no search parameter %q.%s", typ, code, hint)
}

// chain reads subject:Patient.name (R4 search.html#chaining).
func (p *parser) chain(full, typ string, param Param, modifier, rest, value string, depth int) Expr {
	if param.Kind != Reference {
		p.fail(full, fhir.CodeInvalid, "%s is no reference parameter of %s, so nothing can be chained to it.", param.Code, typ)
		return nil
	}
	targets := param.Targets
	switch {
	case modifier != "":
		if !p.catalog.IsResource(modifier) {
			p.fail(full, fhir.CodeInvalid, "%s of %s does not refer to %q.", param.Code, typ, modifier)
			return nil
		}
		targets = []string{modifier}
	case targets == nil:
		targets = p.catalog.ResourceTypes()
	}
	code, _, _ := strings.Cut(rest, ".")
	code, _, _ = strings.Cut(code, ":")
	var any Or
	for _, target := range targets {
		if len(targets) > 1 && !p.may(target, rest, value) { // others have it, or have it of another type
			continue
		}
		if len(any) >= MaxUntypedTargets {
			p.fail(full, fhir.CodeTooCostly, "it could lead to more than %d types: name one, as in %s:Patient.%s.", MaxUntypedTargets, param.Code, code)
			return nil
		}
		where := p.condition(full, rest, value, []string{target}, depth+1)
		if where == nil {
			return nil
		}
		any = append(any, &Chain{Type: typ, Param: param, Target: target, Where: where})
	}
	switch len(any) {
	case 0:
		p.unknown(full, "none of the types that %s refers to has a parameter %q that can be asked so.", param.Code, code)
		return nil
	case 1:
		return any[0]
	}
	return any
}

// may says whether the rest of a chain can be asked of a type, as far as its first step tells.
func (p *parser) may(target, rest, value string) bool {
	head, _, further := strings.Cut(rest, ".")
	code, of, _ := strings.Cut(head, ":")
	switch code {
	case "_has":
		return true
	case "_list", "_in":
		return p.mayList(code, value, target)
	}
	next, ok := p.catalog.Param(target, code)
	return ok && p.takes(next, of, further)
}

// leads says whether a parameter leads to a type that the rest of a chain can be asked of.
func (p *parser) leads(param Param, rest, value string) bool {
	targets := param.Targets
	if targets == nil {
		targets = p.catalog.ResourceTypes()
	}
	return param.Kind == Reference && slices.ContainsFunc(targets, func(target string) bool { return p.may(target, rest, value) })
}

// has reads _has:Observation:patient:code=x (R4 search.html#has).
func (p *parser) has(full, name, value string, types []string, depth int) Expr {
	if depth > MaxChain {
		p.issues = append(p.issues, tooMuch("_has nests deeper than %d steps.", MaxChain).Issues...)
		return nil
	}
	parts := strings.SplitN(name, ":", 4)
	if len(parts) != 4 || !p.catalog.IsResource(parts[1]) {
		p.malformed(full, "it must have the form _has:[type]:[reference parameter]:[parameter]=[value].")
		return nil
	}
	ref, ok := p.catalog.Param(parts[1], parts[2])
	if !ok || ref.Kind != Reference {
		p.unknown(full, "%s has no reference parameter %q.", parts[1], parts[2])
		return nil
	}
	where := p.condition(full, parts[3], value, []string{parts[1]}, depth+1)
	if where == nil {
		return nil
	}
	var any Or
	for _, typ := range types {
		if ref.leadsTo(typ) {
			any = append(any, &Has{Type: parts[1], Param: ref, Where: where, Target: typ})
		}
	}
	switch len(any) {
	case 0:
		p.fail(full, fhir.CodeInvalid, "%s of %s does not refer to the type searched.", parts[2], parts[1])
		return nil
	case 1:
		return any[0]
	}
	return any
}

// match reads the values of a parameter.
func (p *parser) match(full, typ string, param Param, modifier, value string) Expr {
	if modifier == "missing" {
		if value != "true" && value != "false" {
			p.malformed(full, ":missing takes true or false.")
			return nil
		}
		return &Missing{Type: typ, Param: param, Missing: value == "true"}
	}
	if !p.modifierFits(param, modifier) {
		kind := "a parameter of type " + string(param.Kind)
		if isText(param) {
			kind = "a search for words"
		}
		p.fail(full, fhir.CodeInvalid, "the modifier :%s does not go with %s.", modifier, kind)
		return nil
	}
	m := &Match{Type: typ, Param: param, Modifier: modifier}
	for _, raw := range split(value, ',') {
		if raw == "" {
			continue
		}
		if len(m.Values) == MaxValues {
			p.issues = append(p.issues, tooMuch("A parameter has more than %d values.", MaxValues).Issues...)
			return nil
		}
		v, reason := p.value(param, modifier, raw)
		if reason != "" {
			p.malformed(full, "%s", reason)
			return nil
		}
		m.Values = append(m.Values, v)
	}
	if len(m.Values) == 0 {
		if value == "" {
			return And{}
		}
		p.malformed(full, "it has no value.")
		return nil
	}
	if param.Kind == Reference && p.catalog.IsResource(modifier) {
		m.Modifier = ""
	}
	return m
}

// modifiers are those of FHIR R4 search.html#modifiers, apart from :missing and resource types.
var modifiers = map[Kind][]string{
	String:    {"exact", "contains", "text"},
	Token:     {"not", "text", "in", "not-in", "above", "below", "of-type"},
	Reference: {"identifier", "above", "below"},
	URI:       {"above", "below"},
}

// takes says whether a parameter can be asked with a modifier, "" for none, or have something chained to it.
func (p *parser) takes(param Param, modifier string, chained bool) bool {
	if chained {
		return param.Kind == Reference && (modifier == "" || p.catalog.IsResource(modifier) && param.leadsTo(modifier))
	}
	return modifier == "missing" || p.modifierFits(param, modifier)
}

func (p *parser) modifierFits(param Param, modifier string) bool {
	if modifier == "" {
		return true
	}
	if param.Kind == Reference && p.catalog.IsResource(modifier) {
		return param.leadsTo(modifier)
	}
	return slices.Contains(modifiers[param.Kind], modifier) && !isText(param)
}
