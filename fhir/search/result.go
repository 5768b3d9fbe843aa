package search

import (
	"slices"
	"strconv"
	"strings"

	"kiln/fhir"
)

// result reads a parameter that shapes the answer (R4 search.html#return).
func (p *parser) result(name string, pair Pair) bool {
	q, value := p.query, pair.Value
	switch name {
	case "_count":
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 {
			return p.malformed(pair.Name, "%q is no count: it takes 0 or a positive number.", value)
		}
		q.Count = n
	case "_total":
		return p.oneOf(&q.Total, pair, "none", "estimate", "accurate")
	case "_summary":
		return p.oneOf(&q.Summary, pair, "true", "text", "data", "count", "false")
	case "_contained":
		if !p.oneOf(&q.Contained, pair, "true", "false", "both") {
			return false
		}
		if q.Contained == "false" {
			q.Contained = ""
		}
	case "_containedType":
		return p.oneOf(&q.ContainedType, pair, "container", "contained")
	case "_elements":
		for _, e := range strings.Split(value, ",") {
			if e = strings.TrimSpace(e); e != "" {
				q.Elements = append(q.Elements, e)
			}
		}
		if len(q.Elements) > MaxValues {
			return p.fail(pair.Name, fhir.CodeTooCostly, "it names more than %d elements.", MaxValues)
		}
	case "_timezone":
		return q.Zone != nil // read before all others
	case "_cursor":
		q.Cursor = value
		return false
	case "_explain":
		q.Explain = value == "true"
	case "_sort":
		return p.sort(pair)
	case "_include", "_revinclude":
		return p.include(name, pair)
	}
	return true
}

// ParseSubset reads _summary and _elements out of the query of what is no search: a read or a history. Everything else in it
// is left to others. Errors: Invalid.
func ParseSubset(query string) (summary string, elements []string, err error) {
	if !strings.Contains(query, "_") && !strings.Contains(query, "%") {
		return "", nil, nil
	}
	pairs, err := ParsePairs(query)
	if err != nil {
		return "", nil, err
	}
	p := &parser{query: &Query{}}
	for _, pair := range pairs {
		if pair.Name == "_summary" || pair.Name == "_elements" {
			p.result(pair.Name, pair)
		}
	}
	if len(p.issues) > 0 {
		return "", nil, &fhir.Error{Kind: fhir.Invalid, Issues: p.issues}
	}
	return p.query.Summary, p.query.Elements, nil
}

func (p *parser) oneOf(into *string, pair Pair, allowed ...string) bool {
	if !slices.Contains(allowed, pair.Value) {
		return p.malformed(pair.Name, "%q is not one of %s.", pair.Value, strings.Join(allowed, ", "))
	}
	*into = pair.Value
	return true
}

func (p *parser) include(name string, pair Pair) bool {
	if len(p.query.Includes) == MaxIncludes {
		return p.fail(pair.Name, fhir.CodeTooCostly, "there are more than %d includes.", MaxIncludes)
	}
	in := Include{Reverse: name == "_revinclude"}
	switch _, modifier, _ := strings.Cut(pair.Name, ":"); modifier {
	case "":
	case "iterate", "recurse":
		in.Iterate = true
	default:
		return p.fail(pair.Name, fhir.CodeInvalid, "its only modifier is :iterate.")
	}
	parts := strings.Split(pair.Value, ":")
	if pair.Value == "*" {
		in.Source, in.Param = "*", "*"
		p.query.Includes = append(p.query.Includes, in)
		return true
	}
	if len(parts) < 2 || len(parts) > 3 {
		return p.malformed(pair.Name, "%q must have the form Type:parameter or Type:parameter:TargetType, or be *.", pair.Value)
	}
	in.Source, in.Param = parts[0], parts[1]
	if !p.catalog.IsResource(in.Source) {
		return p.malformed(pair.Name, "%q is no resource type of FHIR R4.", in.Source)
	}
	if in.Param != "*" {
		param, ok := p.catalog.Param(in.Source, in.Param)
		if !ok || param.Kind != Reference {
			hint := ""
			references := slices.DeleteFunc(p.catalog.Codes(in.Source), func(code string) bool {
				param, ok := p.catalog.Param(in.Source, code)
				return !ok || param.Kind != Reference
			})
			if near := nearest(in.Param, references); len(near) > 0 {
				hint = " Did you mean " + strings.Join(near, ", ") + "?"
			}
			return p.unknown(pair.Name, "%s has no reference parameter %q.%s", in.Source, in.Param, hint)
		}
		if len(parts) == 3 && !param.leadsTo(parts[2]) {
			return p.malformed(pair.Name, "%s of %s does not refer to %q.", in.Param, in.Source, parts[2])
		}
	}
	if len(parts) == 3 {
		if in.Target = parts[2]; !p.catalog.IsResource(in.Target) {
			return p.malformed(pair.Name, "%q is no resource type of FHIR R4.", in.Target)
		}
	}
	p.query.Includes = append(p.query.Includes, in)
	return true
}

// nearest returns up to three names that are a few letters away from name.
func nearest(name string, names []string) []string {
	if len(name) > 64 {
		return nil
	}
	type scored struct {
		name  string
		score int
	}
	var list []scored
	for _, n := range names {
		d := distance(name, n)
		if d <= 1+len(name)/4 || strings.HasPrefix(n, name) && len(name) >= 3 {
			list = append(list, scored{n, d})
		}
	}
	slices.SortFunc(list, func(a, b scored) int {
		if a.score != b.score {
			return a.score - b.score
		}
		return strings.Compare(a.name, b.name)
	})
	var near []string
	for _, s := range list[:min(3, len(list))] {
		near = append(near, s.name)
	}
	return near
}

// distance is the Levenshtein distance in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			above := row[j]
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			row[j] = min(cost, row[j-1]+1, above+1)
			diagonal = above
		}
	}
	return row[len(b)]
}
