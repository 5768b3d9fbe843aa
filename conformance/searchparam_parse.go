package conformance

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"kiln/fhir"
	"kiln/fhir/search"
)

var searchCode = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,63}$`)

const officialSearchParameters = "http://hl7.org/fhir/SearchParameter/"

// faults collects issues about one resource.
type faults []fhir.Issue

func (f *faults) add(code, expression, text string, args ...any) {
	*f = append(*f, fhir.Issue{Severity: fhir.SeverityError, Code: code, Text: fmt.Sprintf(text, args...),
		Expression: []string{expression}})
}

func (f faults) err() error {
	if len(f) == 0 {
		return nil
	}
	return &fhir.Error{Kind: fhir.Unprocessable, Issues: f}
}

// ParseSearchParameter reads a SearchParameter resource, official or a user's own: one parameter for each of its bases.
// Pass the result to Registry.Check, which knows the types and the other parameters, and then to Registry.With.
//
// Errors: Unprocessable with all issues found.
// Spec: FHIR R4 searchparameter.html.
func ParseSearchParameter(n *fhir.Node) ([]*SearchParameter, error) {
	var f faults
	if n.ResourceType() != "SearchParameter" {
		f.add(fhir.CodeInvalid, "SearchParameter", "The resource is no SearchParameter.")
		return nil, f.err()
	}
	common := SearchParameter{
		Code: n.GetText("code"), URL: n.GetText("url"), ID: n.ID(), Type: search.Kind(n.GetText("type")),
		MultipleOr: !isFalse(n.Get("multipleOr")), MultipleAnd: !isFalse(n.Get("multipleAnd")),
		Targets: itemTexts(n.Get("target")),
	}
	for _, name := range []string{"url", "name", "status", "description", "code", "base", "type"} {
		if n.Get(name) == nil {
			f.add(fhir.CodeRequired, "SearchParameter."+name, "A SearchParameter needs the element %s.", name)
		}
	}
	if common.Code != "" && !searchCode.MatchString(common.Code) {
		f.add(fhir.CodeValue, "SearchParameter.code",
			"The code must be letters, digits, - and _, starting with a letter or _, at most 64 characters.")
	}
	if common.Type != "" && !slices.Contains(search.Kinds[:], common.Type) {
		f.add(fhir.CodeCodeInvalid, "SearchParameter.type", "%q is no type of search parameter.", common.Type)
	}
	expression := n.GetText("expression")
	if expression == "" && !strings.HasPrefix(common.URL, officialSearchParameters) {
		f.add(fhir.CodeRequired, "SearchParameter.expression",
			"A search parameter needs an expression: without one there is nothing to search for.")
	}
	common.Components = parseComponents(&f, n, common.Type)
	var list []*SearchParameter
	for _, base := range itemTexts(n.Get("base")) {
		p := common
		p.Base, p.Key = base, Key(base, p.Code)
		p.Description = descriptionFor(n.GetText("description"), base)
		p.Expression = expressionFor(expression, base)
		if expression != "" && p.Expression == "" {
			f.add(fhir.CodeInvalid, "SearchParameter.expression", "The expression says nothing about the base %s.", base)
		}
		list = append(list, &p)
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	return list, nil
}

func parseComponents(f *faults, n *fhir.Node, typ search.Kind) []Component {
	var list []Component
	for c := range n.Get("component").Items() {
		at := fmt.Sprintf("SearchParameter.component[%d]", len(list))
		part := Component{Definition: c.GetText("definition"), Expression: typeFilters(c.GetText("expression"))}
		if part.Definition == "" || part.Expression == "" {
			f.add(fhir.CodeRequired, at, "A component needs a definition and an expression.")
		}
		list = append(list, part)
	}
	switch {
	case typ == search.Composite && len(list) < 2:
		f.add(fhir.CodeRequired, "SearchParameter.component", "A composite search parameter needs at least two components.")
	case typ != search.Composite && len(list) > 0:
		f.add(fhir.CodeInvalid, "SearchParameter.component", "Only a composite search parameter has components.")
	}
	return list
}

// descriptionFor takes the line about one base out of a description that the specification shares between bases:
// "* [Patient](patient.html): A portion of the given name".
func descriptionFor(description, base string) string {
	for line := range strings.Lines(description) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "* ["+base+"]("); ok {
			if _, text, ok := strings.Cut(rest, "): "); ok {
				return strings.TrimSpace(text)
			}
		}
	}
	return description
}

// Check says what keeps the given parameters from being added with With. Parameters may refer to one another.
//
// Errors: Unprocessable with all issues found.
func (r *Registry) Check(extra ...*SearchParameter) error {
	var all faults
	for _, p := range extra {
		all = append(all, r.check(p, extra)...)
	}
	return all.err()
}

func (r *Registry) check(p *SearchParameter, extra []*SearchParameter) (f faults) {
	if t := r.schema.Type(p.Base); t == nil || t.Kind != fhir.Resource {
		f.add(fhir.CodeCodeInvalid, "SearchParameter.base", "%q is no resource type of FHIR R4.", p.Base)
		return f
	}
	for _, target := range p.Targets {
		if t := r.schema.Type(target); t == nil || t.Kind != fhir.Resource {
			f.add(fhir.CodeCodeInvalid, "SearchParameter.target", "%q is no resource type of FHIR R4.", target)
		}
	}
	for _, base := range r.concreteBases(p.Base) {
		key := Key(base, p.Code)
		clash := r.keys[key]
		for _, q := range extra {
			if q.Key == key && (q.Base != base || q.Code != p.Code) {
				clash = q
			}
		}
		if clash != nil && (clash.Base != base || clash.Code != p.Code) {
			f.add(fhir.CodeConflict, "SearchParameter.code",
				"The code %s cannot be used for %s: its key is that of %s.%s. Choose another code.",
				p.Code, base, clash.Base, clash.Code)
		}
	}
	for i, c := range p.Components {
		at := fmt.Sprintf("SearchParameter.component[%d].definition", i)
		url, _, _ := strings.Cut(c.Definition, "|")
		part := r.SearchParameterByURL(p.Base, url)
		for _, q := range extra {
			if q.URL == url && (q.Base == p.Base || slices.Contains(r.concreteBases(q.Base), p.Base)) {
				part = q
			}
		}
		switch {
		case part == nil:
			f.add(fhir.CodeNotFound, at, "No search parameter of %s is defined by %s.", p.Base, c.Definition)
		case part.Type == search.Composite:
			f.add(fhir.CodeInvalid, at, "A component cannot be a composite itself.")
		}
	}
	return f
}

func isFalse(n *fhir.Node) bool { return n != nil && n.Kind == fhir.Bool && n.Text == "false" }

func itemTexts(n *fhir.Node) []string {
	var list []string
	for v := range n.Items() {
		list = append(list, v.Text)
	}
	return list
}
