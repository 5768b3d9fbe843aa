package terminology

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"kiln/fhir"
)

// compiler turns value sets into conditions on a row c of concept. Every value becomes a parameter.
//
// Codes that a value set lists of a code system that is not here, or not in full, have no such row: they are literals,
// and has says whether one is a member.
type compiler struct {
	r    *Resolver
	args []any
	// only is the code system that the question is about, "" for all: parts of others have nothing to say.
	only string
	// code is the one code that the question is about, "" for all.
	code string
	// lenient keeps parts that cannot be answered from being an error at once; fault is the first of them.
	lenient bool
	fault   error
	// excludeFault says that what could not be answered is an exclude, so that a member may be none.
	excludeFault bool
	excluding    int             // how many excludes the part at hand is inside of
	skip         map[string]bool // code systems that the caller leaves out
	listing      bool            // the codes are to be listed
	anchors      map[anchorKey]anchor
	keys         map[string][]int64 // all code systems that take part, by URL
	systems      map[int64]*System
	partial      []*System // code systems that are here in part only, and were used
	broken       []string  // value sets whose stored expansion is not whole
	listed       map[codeKey]listed
}

type anchorKey struct {
	system int64
	code   string
}

type codeKey struct{ url, code string }

// anchor is where a code that a filter names stands in its hierarchy.
type anchor struct {
	number             int32
	parents, ancestors []int32
}

func (r *Resolver) compiler() *compiler {
	return &compiler{r: r, anchors: map[anchorKey]anchor{}, keys: map[string][]int64{}, systems: map[int64]*System{},
		listed: map[codeKey]listed{}, skip: map[string]bool{}}
}

// arg adds a parameter and returns its placeholder.
func (c *compiler) arg(v any, typ string) string {
	c.args = append(c.args, v)
	return "$" + strconv.Itoa(len(c.args)) + "::" + typ
}

// eachPart calls do for all parts of a value set, those of the sets it includes first to last.
func eachPart(s *Set, do func(*part)) {
	seen := map[*Set]bool{}
	var walk func(*Set)
	walk = func(s *Set) {
		if seen[s] {
			return
		}
		seen[s] = true
		for _, list := range [][]*part{s.includes, s.excludes} {
			for _, p := range list {
				do(p)
				for _, o := range p.sets {
					walk(o)
				}
			}
		}
	}
	walk(s)
}

const sqlAnchors = `
SELECT c.system, c.code, c.number, c.parents, c.ancestors FROM unnest($1::bigint[], $2::text[]) AS u(system, code)
JOIN concept c ON c.system = u.system AND c.code = u.code`

// prepare looks up what all filters name, in one query.
func (c *compiler) prepare(ctx context.Context, s *Set) error {
	var systems []int64
	var codes []string
	eachPart(s, func(p *part) {
		for _, l := range p.listed {
			if k := (codeKey{p.url, l.code}); c.listed[k].n == nil {
				c.listed[k] = l
			}
		}
		if p.system == nil || p.system.grammar != nil {
			return
		}
		if c.systems[p.system.Key] == nil {
			c.systems[p.system.Key] = p.system
			c.keys[p.url] = append(c.keys[p.url], p.system.Key)
		}
		for _, f := range p.filters {
			if f.hierarchical() {
				systems, codes = append(systems, p.system.Key), append(codes, f.value)
			}
		}
	})
	if len(codes) == 0 {
		return nil
	}
	return c.r.query(ctx, sqlAnchors, []any{systems, codes}, func(rows pgx.Rows) error {
		var k anchorKey
		var a anchor
		err := rows.Scan(&k.system, &k.code, &a.number, &a.parents, &a.ancestors)
		c.anchors[k] = a
		return err
	})
}

// set is the condition that a concept is in a value set.
func (c *compiler) set(ctx context.Context, s *Set) (string, error) {
	in, err := c.any(ctx, s.includes, false)
	if err != nil {
		return "", err
	}
	rest, err := c.rest(ctx, s)
	return "(" + in + ")" + rest, err
}

// rest is what a value set asks beside its includes.
func (c *compiler) rest(ctx context.Context, s *Set) (string, error) {
	if s.partial && !slices.Contains(c.broken, s.URL) {
		c.broken = append(c.broken, s.URL)
	}
	sql := ""
	if len(s.excludes) > 0 {
		out, err := c.any(ctx, s.excludes, true)
		if err != nil {
			return "", err
		}
		sql = " AND NOT (" + out + ")"
	}
	if s.activeOnly {
		sql += " AND NOT c.inactive"
	}
	return sql, nil
}

func (c *compiler) any(ctx context.Context, list []*part, exclude bool) (string, error) {
	if exclude {
		c.excluding++
		defer func() { c.excluding-- }()
	}
	parts := []string{}
	for _, p := range list {
		before := len(c.args)
		one, err := c.part(ctx, p, exclude)
		if err != nil {
			if !c.lenient {
				return "", err
			}
			c.args = c.args[:before] // PostgreSQL refuses parameters that nobody uses
			if c.fault == nil {
				c.fault = err
			}
			c.excludeFault = c.excludeFault || c.excluding > 0
			continue
		}
		if one != "false" {
			parts = append(parts, "("+one+")")
		}
	}
	if len(parts) == 0 {
		return "false", nil
	}
	return strings.Join(parts, " OR "), nil
}

// part is the condition that a concept is in an include or exclude.
func (c *compiler) part(ctx context.Context, p *part, exclude bool) (string, error) {
	if p.url != "" && (c.only != "" && c.only != p.url || c.skip[p.url]) {
		return "false", nil
	}
	var conditions []string
	if p.url != "" {
		own, err := c.own(ctx, p, exclude)
		if err != nil || own == "false" {
			return own, err
		}
		conditions = append(conditions, own)
	}
	for _, s := range p.sets {
		one, err := c.set(ctx, s)
		if err != nil {
			return "", err
		}
		conditions = append(conditions, "("+one+")")
	}
	return strings.Join(conditions, " AND "), nil
}

// own is what a part says of its code system.
func (c *compiler) own(ctx context.Context, p *part, exclude bool) (string, error) {
	s := p.system
	switch {
	case s == nil && (p.enumerated || exclude && p.filters == nil):
		return "false", nil // literals alone
	case s == nil:
		return "", noSystem(p.url, p.version)
	case s.grammar != nil:
		for _, f := range p.filters {
			if _, known := s.grammar.filter(f, ""); !known {
				return "", fhir.NewError(fhir.NotSupported, fhir.CodeNotSupported,
					fmt.Sprintf("This server cannot filter the code system %q by %s %s.", p.url, f.property, f.op))
			}
		}
		if c.listing && !p.enumerated && c.excluding == 0 && len(p.sets) == 0 {
			return "", tooCostly("The codes of %q are built by rules, and nobody can list them all.", p.url)
		}
		return "false", nil
	}
	var sql string
	if exclude && p.version == "" && p.filters == nil {
		sql = "c.system = ANY(" + c.arg(c.keys[p.url], "bigint[]") + ")"
	} else {
		sql = "c.system = " + c.arg(s.Key, "bigint")
	}
	if p.enumerated {
		codes := make([]string, len(p.listed))
		for i, l := range p.listed {
			codes[i] = l.code
		}
		if !s.CaseSensitive {
			for i := range codes {
				codes[i] = asciiLower(codes[i])
			}
			return sql + " AND lower(c.code) = ANY(" + c.arg(codes, "text[]") + ")", nil
		}
		return sql + " AND c.code = ANY(" + c.arg(codes, "text[]") + ")", nil
	}
	if !s.Complete() {
		if s.Concepts == 0 {
			return "", notFull(s)
		}
		if c.lenient && c.excluding > 0 {
			return "", notFull(s)
		}
		if !slices.Contains(c.partial, s) {
			c.partial = append(c.partial, s)
		}
	}
	for _, f := range p.filters {
		one, err := c.filter(ctx, s, f)
		if err != nil {
			return "", err
		}
		sql += " AND (" + one + ")"
	}
	return sql, nil
}

// asciiLower is what lower() does under the collation "C".
func asciiLower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// isConcept says whether a property means the code itself.
func (f filter) isConcept() bool { return f.property == "concept" || f.property == "code" }

// hierarchical says whether the value of a filter is a code whose place in the hierarchy counts.
func (f filter) hierarchical() bool {
	switch f.op {
	case "is-a", "descendent-of", "is-not-a", "generalizes":
		return true
	case "=":
		return f.property == "parent" || f.property == "child" || f.property == "ancestor" || f.property == "descendant"
	}
	return false
}

// filter is the condition of one filter (FHIR R4 valueset.html#filters, codesystem-filter-operator.html).
//
// Errors: Unprocessable for a filter that does not fit its code system; NotSupported for one that nobody here knows.
func (c *compiler) filter(ctx context.Context, s *System, f filter) (string, error) {
	if f.hierarchical() {
		a, ok := c.anchors[anchorKey{s.Key, f.value}]
		if !ok {
			return "", fhir.NewError(fhir.Unprocessable, fhir.CodeCodeInvalid, fmt.Sprintf(
				"A filter asks for %s %s %q, and the code system %q has no such code here.", f.property, f.op, f.value, s.URL)).Coded("filter-code")
		}
		return c.place(f, a)
	}
	value := func() string { return c.arg(f.value, "text") }
	switch f.op {
	case "=":
		switch f.property {
		case "concept", "code":
			if !s.CaseSensitive {
				return "lower(c.code) = " + c.arg(asciiLower(f.value), "text"), nil
			}
			return "c.code = " + value(), nil
		case "display":
			return "c.display = " + value(), nil
		case "definition":
			return "c.definition = " + value(), nil
		case "inactive":
			return "c.inactive = " + c.arg(f.value == "true", "boolean"), nil
		case "notSelectable", "abstract":
			return "c.abstract = " + c.arg(f.value == "true", "boolean"), nil
		}
		return c.property(f.property, "p.value = "+value()+" AND left(p.value, 200) = left("+value()+", 200)"), nil
	case "in", "not-in":
		var list []string
		for v := range strings.SplitSeq(f.value, ",") {
			list = append(list, strings.TrimSpace(v))
		}
		not := ""
		if f.op == "not-in" {
			not = "NOT "
		}
		if f.isConcept() {
			if s.URL == SNOMED && f.op == "in" { // membership of a reference set (FHIR R4 snomedct.html#props)
				return c.property(MemberOf, "p.value = ANY("+c.arg(list, "text[]")+")"), nil
			}
			return not + "c.code = ANY(" + c.arg(list, "text[]") + ")", nil
		}
		return not + c.property(f.property, "p.value = ANY("+c.arg(list, "text[]")+")"), nil
	case "exists":
		not := "NOT "
		switch f.value {
		case "true":
			not = ""
		case "false":
		default:
			return "", fhir.NewError(fhir.Unprocessable, fhir.CodeValue, fmt.Sprintf("The filter %s exists needs true or false, not %q.", f.property, f.value))
		}
		switch f.property {
		case "concept", "code":
			return not + "true", nil
		case "display", "definition":
			return not + "(c." + f.property + " IS NOT NULL)", nil
		case "parent":
			return not + "(c.parents <> '{}')", nil
		case "child":
			return not + "EXISTS (SELECT FROM concept k WHERE k.system = c.system AND k.parents @> ARRAY[c.number])", nil
		}
		return not + c.property(f.property, "true"), nil
	case "regex":
		return c.regex(ctx, s, f)
	}
	return "", fhir.NewError(fhir.NotSupported, fhir.CodeNotSupported, fmt.Sprintf("This server does not know the filter operator %q.", f.op))
}

func (c *compiler) property(code, condition string) string {
	return "EXISTS (SELECT FROM concept_property p WHERE p.system = c.system AND p.number = c.number AND p.code = " +
		c.arg(code, "text") + " AND " + condition + ")"
}

// place compares places in the hierarchy.
func (c *compiler) place(f filter, a anchor) (string, error) {
	self := func() string { return "c.number = " + c.arg(a.number, "integer") }
	below := func() string { return "c.ancestors @> " + c.arg([]int32{a.number}, "integer[]") }
	switch f.op {
	case "is-a":
		return self() + " OR " + below(), nil
	case "descendent-of":
		return below(), nil
	case "is-not-a":
		return "NOT (" + self() + " OR " + below() + ")", nil
	case "generalizes":
		return "c.number = ANY(" + c.arg(append([]int32{a.number}, a.ancestors...), "integer[]") + ")", nil
	}
	switch f.property {
	case "parent":
		return "c.parents @> " + c.arg([]int32{a.number}, "integer[]"), nil
	case "ancestor":
		return below(), nil
	case "child":
		return "c.number = ANY(" + c.arg(a.parents, "integer[]") + ")", nil
	default: // descendant
		return "c.number = ANY(" + c.arg(a.ancestors, "integer[]") + ")", nil
	}
}

// Bounds on filters by regular expression.
const (
	MaxRegex           = 1000
	MaxRegexCandidates = 500_000
)

// regex evaluates a regular expression here, with an engine that takes time proportional to its input (RE2), and not
// in the database. It must match the whole value, as FHIR's own regular expressions do.
func (c *compiler) regex(ctx context.Context, s *System, f filter) (string, error) {
	if len(f.value) > MaxRegex {
		return "", tooCostly("A filter has a regular expression of more than %d characters.", MaxRegex)
	}
	re, err := regexp.Compile(`^(?:` + f.value + `)$`)
	if err != nil {
		return "", fhir.NewError(fhir.Unprocessable, fhir.CodeValue, fmt.Sprintf("The regular expression of a filter by %s cannot be read: %v.", f.property, err))
	}
	if s.Concepts > MaxRegexCandidates {
		return "", tooCostly("A filter by regular expression would have to look at more than %d codes of %q.", MaxRegexCandidates, s.URL)
	}
	sql, args := "", []any{s.Key}
	switch f.property {
	case "concept", "code":
		sql = "SELECT c.number, c.code FROM concept c WHERE c.system = $1"
	case "display", "definition":
		sql = "SELECT c.number, c." + f.property + " FROM concept c WHERE c.system = $1 AND c." + f.property + " IS NOT NULL"
	default:
		sql = "SELECT c.number, p.value FROM concept c JOIN concept_property p ON p.system = c.system AND p.number = c.number WHERE c.system = $1 AND p.code = $2"
		args = append(args, f.property)
	}
	if c.code != "" {
		args = append(args, asciiLower(c.code))
		sql += " AND lower(c.code) = $" + strconv.Itoa(len(args))
	}
	numbers := []int32{}
	err = c.r.query(ctx, sql, args, func(rows pgx.Rows) error {
		var number int32
		var value string
		if err := rows.Scan(&number, &value); err != nil {
			return err
		}
		if re.MatchString(value) {
			numbers = append(numbers, number)
		}
		return nil
	})
	return "c.number = ANY(" + c.arg(numbers, "integer[]") + ")", err
}
