package resources

import (
	"slices"
	"strings"

	"kiln/fhir"
	"kiln/storage"
)

// subset reduces a resource to what _summary or _elements ask for and marks it with the tag SUBSETTED (FHIR R4
// search.html#summary). Without either it returns v itself.
func (s *Service) subset(v *storage.Version, summary string, elements []string) (*storage.Version, error) {
	if v == nil || v.Deleted || summary == "" && len(elements) == 0 || summary == "false" || summary == "count" {
		return v, nil
	}
	n, err := fhir.ParseJSON(v.Content)
	if err != nil {
		return nil, err
	}
	t := s.registry.Schema().Type(v.Type)
	keep := func(e *fhir.Element) bool {
		return slices.ContainsFunc(elements, func(asked string) bool {
			asked, _, _ = strings.Cut(strings.TrimPrefix(asked, v.Type+"."), ".") // an element is left whole
			return strings.TrimSuffix(asked, "[x]") == e.Name
		})
	}
	switch summary {
	case "true":
		keep = func(e *fhir.Element) bool { return e.IsSummary }
	case "text":
		keep = func(e *fhir.Element) bool { return e.Name == "text" }
	case "data":
		keep = func(e *fhir.Element) bool { return e.Name != "text" }
	}
	reduced := fhir.Obj()
	for _, m := range n.Kids {
		p, known := t.Properties[strings.TrimPrefix(m.Name, "_")]
		if m.Name == "resourceType" || m.Name == "id" || m.Name == "meta" || known && (p.Element.Min > 0 || keep(p.Element)) {
			if summary == "true" {
				m = summarized(m, p)
			}
			reduced.Kids = append(reduced.Kids, m)
		}
	}
	fhir.Subsetted(&reduced)
	smaller := *v
	smaller.Content = reduced.JSON()
	return &smaller, nil
}

// summarized leaves out of a backbone element what is no part of the summary.
func summarized(n fhir.Node, p fhir.Property) fhir.Node {
	if p.Type == nil || p.Type.Kind != fhir.Backbone {
		return n
	}
	if n.Kind == fhir.Array {
		items := make([]fhir.Node, len(n.Kids))
		for i, item := range n.Kids {
			items[i] = summarized(item, p)
		}
		n.Kids = items
		return n
	}
	var kids []fhir.Node
	for _, m := range n.Kids {
		q, known := p.Type.Properties[strings.TrimPrefix(m.Name, "_")]
		if known && (q.Element.IsSummary || q.Element.Min > 0 || q.Element.Name == "modifierExtension") {
			kids = append(kids, summarized(m, q))
		}
	}
	n.Kids = kids
	return n
}
