package conformance

import (
	"regexp"
	"slices"
	"strings"

	"kiln/fhir"
	"kiln/fhir/search"
)

// splitUnion cuts a FHIRPath at the unions (|) that are in no parentheses, brackets or quotes.
func splitUnion(expression string) []string { return splitTop(expression, '|') }

func splitTop(expression string, sep byte) []string {
	var parts []string
	depth, start := 0, 0
	for i := 0; i < len(expression); i++ {
		switch c := expression[i]; {
		case c == '\'' || c == '`' || c == '"':
			for i++; i < len(expression) && expression[i] != c; i++ {
				if expression[i] == '\\' {
					i++
				}
			}
		case c == '(' || c == '[' || c == '{':
			depth++
		case c == ')' || c == ']' || c == '}':
			depth--
		case c == sep && depth == 0:
			parts = append(parts, strings.TrimSpace(expression[start:i]))
			start = i + 1
		}
	}
	return append(parts, strings.TrimSpace(expression[start:]))
}

// expressionFor keeps the branches of a union that concern a base and puts them into the form that SearchParameter
// promises. It returns "" when there is none.
func expressionFor(expression, base string) string {
	var branches []string
	for _, b := range splitUnion(expression) {
		b = typeFilters(b)
		switch head := headOf(b); {
		case b == "":
		case head == base, head == "Resource", head == "DomainResource":
			branches = append(branches, rebase(b, base))
		case head == "" && b[0] >= 'a' && b[0] <= 'z':
			branches = append(branches, base+"."+b) // InsurancePlan-name is written without its type
		case head == "":
			branches = append(branches, b)
		}
	}
	return strings.Join(slices.Compact(branches), " | ")
}

var (
	asOperator = regexp.MustCompile(`^\(([A-Za-z][\w.\[\]]*) as (?:FHIR\.)?(\w+)\)`)
	asFunction = regexp.MustCompile(`\.as\((?:FHIR\.)?(\w+)\)`)
	jsonValue  = regexp.MustCompile(`\b(extension(?:\([^()]*\))?(?:\.where\([^()]*\))?)\.value([A-Z])(\w*)`)
)

// typeFilters writes the operator and the function "as" as ofType: the former fail on more than one value (FHIRPath
// 2.0 §6.3.3), but R4 uses them on repeating elements, such as (Observation.component.value as Quantity). The value of an extension is
// written so, too, where a guide names it as JSON does: extension.where(url = '…').valueDateTime (US Core's asserted-date), though FHIRPath
// knows the element as value alone (FHIR R4 fhirpath.html#polymorphism).
func typeFilters(branch string) string {
	branch = asOperator.ReplaceAllString(branch, "$1.ofType($2)")
	branch = asFunction.ReplaceAllString(branch, ".ofType($1)")
	return jsonValue.ReplaceAllStringFunc(branch, func(text string) string {
		m := jsonValue.FindStringSubmatch(text)
		name := m[2] + m[3]
		if primitive := strings.ToLower(m[2]) + m[3]; slices.Contains(primitives, primitive) {
			name = primitive
		}
		return m[1] + ".value.ofType(" + name + ")"
	})
}

// primitives are the types whose names begin with a small letter (FHIR R4 datatypes.html#primitive).
var primitives = []string{"base64Binary", "boolean", "canonical", "code", "date", "dateTime", "decimal", "id", "instant", "integer", "markdown",
	"oid", "positiveInt", "string", "time", "unsignedInt", "uri", "url", "uuid"}

// headOf returns the type name that a branch starts with, or "".
func headOf(branch string) string {
	b := strings.TrimLeft(branch, "( ")
	if b == "" || b[0] < 'A' || b[0] > 'Z' {
		return ""
	}
	end := 0
	for end < len(b) && (b[end] >= 'a' && b[end] <= 'z' || b[end] >= 'A' && b[end] <= 'Z') {
		end++
	}
	return b[:end]
}

// Covers says whether p finds all that q does: both are of one kind and for one type, by one code, and each branch of q's expression is
// one of p's. An expression that means the same in other words is not seen through.
func (p *SearchParameter) Covers(q *SearchParameter) bool {
	if p.Base != q.Base || p.Code != q.Code || p.Type != q.Type || !slices.EqualFunc(p.Components, q.Components, func(a, b Component) bool {
		return a.Definition == b.Definition && a.Expression == b.Expression
	}) {
		return false
	}
	plain := func(expression string) []string {
		branches := splitUnion(expression)
		for i, b := range branches {
			branches[i] = strings.ReplaceAll(b, " ", "")
		}
		return branches
	}
	has := plain(p.Expression)
	return !slices.ContainsFunc(plain(q.Expression), func(b string) bool { return !slices.Contains(has, b) })
}

// rebase replaces the abstract type that each branch of an expression starts with by a concrete one.
func rebase(expression, base string) string {
	if !strings.Contains(expression, "Resource") {
		return expression
	}
	branches := splitUnion(expression)
	for i, b := range branches {
		if head := headOf(b); head == "Resource" || head == "DomainResource" {
			branches[i] = strings.Replace(b, head, base, 1)
		}
	}
	return strings.Join(branches, " | ")
}

// narrowTargets returns the targets of a reference parameter that its elements can hold. The definitions list those of
// all bases together: AllergyIntolerance.patient holds no Group, though clinical-patient has that target. A server that
// reads "patient=123" as Patient/123 needs the short list.
func narrowTargets(s *fhir.Schema, p *SearchParameter) []string {
	if p.Type != search.Reference || p.Expression == "" {
		return p.Targets
	}
	var held []string
	for _, b := range splitUnion(p.Expression) {
		targets := branchTargets(s, b)
		if targets == nil || slices.Contains(targets, "Resource") {
			return p.Targets
		}
		held = append(held, targets...)
	}
	var both []string
	for _, t := range p.Targets {
		if slices.Contains(held, t) {
			both = append(both, t)
		}
	}
	if both == nil {
		return p.Targets
	}
	return both
}

var resolvesTo = regexp.MustCompile(`^where\(resolve\(\) is (\w+)\)$`)

// branchTargets follows a path through the types; nil when it cannot, or when the path ends at no reference.
func branchTargets(s *fhir.Schema, branch string) []string {
	refs := branchTypes(s, branch)
	parts := splitTop(branch, '.')
	if m := resolvesTo.FindStringSubmatch(parts[len(parts)-1]); m != nil && refs != nil {
		return m[1:]
	}
	var targets []string
	for _, ref := range refs {
		if ref.Code != "Reference" && ref.Code != "canonical" {
			continue
		}
		if ref.Targets == nil {
			return []string{"Resource"}
		}
		targets = append(targets, ref.Targets...)
	}
	return targets
}

// branchTypes returns the types of the values of a path that is made of elements, where(…), ofType(…) and indexes, or
// nil for any other path.
func branchTypes(s *fhir.Schema, branch string) []*fhir.TypeRef {
	parts := splitTop(branch, '.')
	at := []*fhir.TypeRef{{Code: parts[0], Type: s.Type(parts[0])}}
	if at[0].Type == nil {
		return nil
	}
	for _, name := range parts[1:] {
		if strings.HasPrefix(name, "where(") {
			continue
		}
		var next []*fhir.TypeRef
		if only, ok := strings.CutPrefix(name, "ofType("); ok {
			for _, ref := range at {
				if ref.Code == strings.TrimSuffix(only, ")") {
					next = append(next, ref)
				}
			}
		} else {
			name, _, _ = strings.Cut(name, "[")
			for _, ref := range at {
				for _, e := range ref.Type.Elements {
					if e.Name == name {
						next = append(next, e.Types...)
					}
				}
			}
		}
		if at = next; at == nil {
			return nil
		}
	}
	return at
}
